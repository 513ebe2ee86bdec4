"""The ops, a file a family: kernels, forward, gradient and samples together."""
