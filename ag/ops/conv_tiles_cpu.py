"""The loops of convolution on the CPU: tiles in registers, of pixels found through a table of addresses.

A pixel's channels are one run of numbers, the row of a matrix. For each element of the window (a "tap") a tile of
pixels of the output gains the product of as many pixels of the input and the tap's weights. A pixel of the padding
has the address of zeros. So no image is unrolled.
"""

from __future__ import annotations

import numba

from ownt.compiled_cpu import OPTIONS, blocks, compiled, prange
from ownt.lanes_cpu import fill, lanes, load, store
from ownt.tile_cpu import ROWS, VECTORS, columns_tile, row_tile, rows_tile

PIXELS = 192  # of the output at a time, whose tiles stay in the second-level cache
SUMMED = 96  # pixels that a tile of the weights' gradient sums at a time
DEPTH = 48  # numbers of a pixel of the input for which it does: a multiple of ROWS, and of the lanes
SLICES = 16  # times so many at most between two passes over the images: their sums stay in the second-level cache


@compiled("void(real[:, :, ::1], int64, int64, real[::1])", parallel=True)
def to_panels(w, groups, of_inputs, panels):
    """Weights (O, C / G, taps) as panels (G, vectors, taps, rows, lanes), with zeros in lanes left over.

    Rows are input channels and lanes output channels, or with `of_inputs` the other way round.
    """
    outputs, depth, taps = w.shape[0] // groups, w.shape[1], w.shape[2]
    n = lanes(panels)
    rows, width = (outputs, depth) if of_inputs else (depth, outputs)
    vectors, flat = blocks(width, n), w.reshape(-1)
    down, across = (depth * taps, taps) if of_inputs else (taps, depth * taps)  # from row to row, from lane to lane
    for unit in prange(groups * vectors):
        panel = panels[unit * taps * rows * n : (unit + 1) * taps * rows * n]
        first = unit % vectors * n
        start = unit // vectors * outputs * depth * taps + first * across
        some = min(n, width - first)
        if some < n:
            for i in range(panel.size):
                panel[i] = w.dtype.type(0)
        if of_inputs:
            for row in range(rows):
                for tap in range(taps):
                    for lane in range(some):
                        panel[(tap * rows + row) * n + lane] = flat[start + row * down + lane * across + tap]
        else:
            for lane in range(some):
                for tap in range(taps):
                    for row in range(rows):
                        panel[(tap * rows + row) * n + lane] = flat[start + row * down + lane * across + tap]


@numba.njit(**OPTIONS)
def _find(x, shape, grid, taps, first, some, places):
    """Fill in where pixels first ... of the output (N, H, W, O) `shape` lie, and where in x their taps see.

    places: one row for each tap, of the number of an element in x or -1 for padding, and then that in the output
    """
    top, left, down, across, high, wide = grid
    rows, columns = (shape[1] - top + down - 1) // down, (shape[2] - left + across - 1) // across
    q, p, image = first % columns, first // columns % rows, first // columns // rows
    for i in range(some):
        places[-1, i] = ((image * shape[1] + top + p * down) * shape[2] + left + q * across) * shape[3]
        for tap in range(taps.shape[0]):
            r, c = p * high + taps[tap, 0], q * wide + taps[tap, 1]
            inside = r >= 0 and r < x.shape[1] and c >= 0 and c < x.shape[2]
            places[tap, i] = ((image * x.shape[1] + r) * x.shape[2] + c) * x.shape[3] if inside else -1
        q += 1
        if q == columns:
            q, p = 0, p + 1
        if p == rows:
            p, image = 0, image + 1


@numba.njit(**OPTIONS)
def _beside(flat, places, shift, run, first, count, some, rows):
    """rows[i, :count] = numbers first, first + 1, ... of those that pixel i sees through its taps, `run` for each"""
    n, zeros, done = lanes(flat), fill(flat, 0), 0
    while done < count:
        tap, c = (first + done) // run, (first + done) % run
        more = min(run - c, count - done)
        whole = more // n * n
        for i in range(some):
            at, to = places[tap, i] + shift + c, i * rows.shape[1] + done
            if places[tap, i] < 0:
                for j in range(0, whole, n):
                    store(rows, to + j, zeros)
                for j in range(whole, more):
                    rows[i, done + j] = flat.dtype.type(0)
            else:
                for j in range(0, whole, n):
                    store(rows, to + j, load(flat, at + j))
                for j in range(whole, more):
                    rows[i, done + j] = flat[at + j]
        done += more


@numba.njit(**OPTIONS)
def _begin(flat, places, some, width, bias, beta):
    """Put the bias, or zeros, where sums are to begin."""
    for i in range(some):
        row = flat[places[-1, i] : places[-1, i] + width]
        for o in range(width):
            value = bias[o] if bias.size else flat.dtype.type(0)
            row[o] = row[o] + value if beta else value


@compiled(
    "void(real[:, :, :, ::1], real[::1], int64, int64, int64, int64[:, ::1], int64[::1], real[::1], int64, "
    "real[:, :, :, ::1], int64[:, :, ::1], real[:, ::1])",
    parallel=True,
)
def slide(x, panels, groups, run, pitch, taps, grid, bias, beta, y, tables, spare):
    """y[n, top + p down, left + q across] = the sum over taps (i, j, number) of the panels' row `number` and those
    after it times x[n, p high + i, q wide + j], where grid is (top, left, down, across, high, wide); + bias + beta y

    run:    numbers of x that a tap sees; pitch: rows of a panel
    tables: for each part, places of pixels by tap, and addresses of rows to read, to write, and of the tile
    spare:  for each part zeros, as many as x has channels, and a tile for outputs that do not fill a vector
    """
    channels, size, n, parts = x.shape[3], x.itemsize, lanes(x), tables.shape[0]
    depth, outputs, many = channels // groups, y.shape[3] // groups, taps.shape[0]
    top, left, down, across = grid[0], grid[1], grid[2], grid[3]
    pixels = y.shape[0] * ((y.shape[1] - top + down - 1) // down) * ((y.shape[2] - left + across - 1) // across)
    vectors, flat, adds = blocks(outputs, n), y.reshape(-1), beta or bias.size > 0 or many == 0
    chunks = blocks(pixels, PIXELS)
    for part in prange(parts):
        places, table = tables[part, : many + 1], tables[part, many + 1 : 2 * many + 1]
        targets, extras, own = tables[part, -2], tables[part, -1], spare[part].ctypes.data
        tile = spare[part, channels:]
        for i in range(PIXELS):
            extras[i] = own + (channels + i * n) * size
        for chunk in range(part * chunks // parts, (part + 1) * chunks // parts):
            some = min(PIXELS, pixels - chunk * PIXELS)
            _find(x, y.shape, grid, taps, chunk * PIXELS, some, places)
            for i in range(some):
                targets[i] = y.ctypes.data + places[-1, i] * size
            for tap in range(many):
                for i in range(some):
                    table[tap, i] = x.ctypes.data + places[tap, i] * size if places[tap, i] >= 0 else own
            if bias.size or many == 0:
                _begin(flat, places, some, y.shape[3], bias, beta)
            for group in range(groups):
                first, shift = 0, group * depth  # of the group's outputs, and inputs
                while first < outputs and many:
                    to = group * outputs + first
                    wide, whole = first + VECTORS * n <= outputs, first + n <= outputs
                    for tap in range(many):
                        at = ((group * vectors + first // n) * pitch + taps[tap, 2]) * n
                        keep = 1 if tap or (adds and whole) else 0
                        for i in range(0, some, ROWS):
                            rows = min(ROWS, some - i)
                            if wide:
                                rows_tile(table[tap], i, shift, rows, run, panels, at, pitch * n, targets, i, to, keep)
                            elif whole:
                                row_tile(table[tap], i, shift, rows, run, panels, at, 0, targets, i, to, keep)
                            else:
                                row_tile(table[tap], i, shift, rows, run, panels, at, 0, extras, i, 0, keep)
                    if not whole:
                        for i in range(some):
                            place = places[-1, i] + to
                            for lane in range(outputs - first):
                                value = tile[i * n + lane]
                                flat[place + lane] = value + flat[place + lane] if adds else value
                    first += VECTORS * n if wide else n


@numba.njit(**OPTIONS)
def _put(sums, depth, run, taps, first, count, covered, stretch, beta, positions, dw):
    """dw[j] (+)= lane j of the sums of numbers first ... first + count - 1 of those that taps see, j < covered"""
    for i in range(count):
        tap, number = (first + i) // run, (first + i) % run
        positions[i] = number % depth * dw.shape[2] + taps[tap, 2] // depth + number // depth
    flat = dw.reshape(-1)
    for j in range(covered):
        row = flat[j * depth * dw.shape[2] : (j + 1) * depth * dw.shape[2]]
        if beta:
            for i in range(count):
                row[positions[i]] += sums[i * stretch + j]
        else:
            for i in range(count):
                row[positions[i]] = sums[i * stretch + j]


@compiled(
    "void(real[:, :, :, ::1], real[:, :, :, ::1], int64, int64, int64[:, ::1], int64[::1], int64, real[:, :, ::1], "
    "int64[:, :, ::1], real[:, ::1])",
    parallel=True,
)
def correlate(g, x, groups, run, taps, grid, beta, dw, tables, spare):
    """dw[o, c, tap] = the sum over pixels (n, p, q) of g[n, p, q, o] x[n, p high + i, q wide + j, c], for taps
    (i, j, number) and grid (0, 0, 1, 1, high, wide); + beta dw

    run:    numbers of x that a tap sees: of one pixel, or of several side by side
    tables: for each part, places of pixels by tap, those of sums in dw, and addresses of rows of x and of the sums
    spare:  for each part, pixels of x and of g side by side, and the sums
    """
    depth, outputs, size, n = dw.shape[1], dw.shape[0] // groups, x.itemsize, lanes(x)
    parts, pixels, stretch, taken = tables.shape[0], g.size // g.shape[3], VECTORS * n, taps.shape[0] * run
    source, slopes, zeros = x.reshape(-1), g.reshape(-1), g.dtype.type(0)
    strips, slices = blocks(outputs, stretch), blocks(taken, DEPTH)
    spans = min(slices, max(blocks(slices, SLICES), blocks(2 * parts, groups * strips)))
    units = groups * strips * spans
    for part in prange(parts):
        places, positions = tables[part, : taps.shape[0] + 1], tables[part, -3]
        table, targets = tables[part, -2], tables[part, -1]
        own, given, rows = spare[part].ctypes.data, SUMMED * DEPTH, SUMMED * (DEPTH + stretch)
        seen, side, sums = spare[part, :given].reshape(SUMMED, DEPTH), spare[part, given:rows], spare[part, rows:]
        for i in range(SUMMED):
            table[i] = own + i * DEPTH * size
            targets[i] = own + (rows + i * stretch) * size
        for unit in range(part * units // parts, (part + 1) * units // parts):
            span, first, group = unit % spans, unit // spans % strips * stretch, unit // spans // strips
            begin, end = span * slices // spans, (span + 1) * slices // spans
            covered = min(stretch, outputs - first)
            for chunk in range(blocks(pixels, SUMMED)):
                some, keep = min(SUMMED, pixels - chunk * SUMMED), 1 if chunk else 0
                _find(x, g.shape, grid, taps, chunk * SUMMED, some, places)
                for i in range(some):
                    at = places[-1, i] + group * outputs + first
                    if covered == stretch:
                        for j in range(0, stretch, n):
                            store(side, i * stretch + j, load(slopes, at + j))
                    else:
                        for j in range(stretch):
                            side[i * stretch + j] = slopes[at + j] if j < covered else zeros
                for piece in range(begin, end):
                    deep, start = min(DEPTH, taken - piece * DEPTH), (piece - begin) * DEPTH * stretch
                    _beside(source, places, group * depth, run, piece * DEPTH, deep, some, seen)
                    for c in range(0, deep, ROWS):
                        columns_tile(
                            table, 0, c, min(ROWS, deep - c), some, side, 0, stretch, targets, c, start, keep
                        )  # fmt: skip
            for piece in range(begin, end):
                deep, start = min(DEPTH, taken - piece * DEPTH), (piece - begin) * DEPTH * stretch
                part_of_dw = dw[group * outputs + first : group * outputs + first + covered]
                _put(
                    sums[start:], depth, run, taps, piece * DEPTH, deep, covered, stretch, beta, positions, part_of_dw
                )  # fmt: skip
