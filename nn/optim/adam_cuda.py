"""Adam and AdamW on CUDA devices: all parameters of a group in one launch."""

from __future__ import annotations

from nn.optim.adam import adam_kernel
from nn.optim.table_cuda import rule_of
from ownt.cuda_source import Source

_source = Source(__file__)
rule_of(adam_kernel, _source.kernel("adam"), "exp_avg", "exp_avg_sq")
