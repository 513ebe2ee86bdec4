"""RMSprop on CUDA devices: all parameters of a group in one launch."""

from __future__ import annotations

from nn.optim.rmsprop import rmsprop_kernel
from nn.optim.table_cuda import rule_of
from ownt.cuda_source import Source

_source = Source(__file__)
rule_of(rmsprop_kernel, _source.kernel("rmsprop"), "square_avg", "momentum_buffer", "grad_avg")
