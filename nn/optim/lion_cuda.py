"""Lion on CUDA devices: all parameters of a group in one launch."""

from __future__ import annotations

from nn.optim.lion import lion_kernel
from nn.optim.table_cuda import rule_of
from ownt.cuda_source import Source

_source = Source(__file__)
rule_of(lion_kernel, _source.kernel("lion"), "exp_avg")
