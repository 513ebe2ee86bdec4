// Windows that slide over images, and how images lie in memory; see window.py.
#pragma once

struct Axis {  // how a window slides along one
  int size, stride, padding, dilation, pixels, places;

  __device__ Axis(int size, int stride, int padding, int dilation, int pixels)
      : size(size), stride(stride), padding(padding), dilation(dilation), pixels(pixels),
        places((pixels + 2 * padding - dilation * (size - 1) - 1) / stride + 1) {}

  // The pixel under an element of the window at a place; -1 on the padding.
  __device__ int pixel(int place, int element) const {
    const int at = place * stride - padding + element * dilation;
    return 0 <= at && at < pixels ? at : -1;
  }

  // The place at which an element of the window is on a pixel; -1 if none.
  __device__ int place(int pixel, int element) const {
    const int from = pixel + padding - element * dilation;
    return from >= 0 && from % stride == 0 && from / stride < places ? from / stride : -1;
  }

  // How many pixels the window sees, of no dilation.
  __device__ int seen(int place) const {
    const int first = place * stride - padding;
    return min(first + size, pixels) - max(first, 0);
  }
};

struct Window {
  Axis down, across;
};

struct Layout {  // of images: elements from one to the next
  long long image;
  int channel, row, column;

  __device__ Layout(bool last, int width, int rows, int columns)
      : image(static_cast<long long>(width) * rows * columns), channel(last ? 1 : rows * columns),
        row(last ? columns * width : columns), column(last ? width : 1) {}

  __device__ long long at(int i, int c, int r, int q) const { return i * image + c * channel + r * row + q * column; }
};
