// What most kernels include.
#pragma once
#include "types.cuh"
#include "vector.cuh"
#include "reduce.cuh"
