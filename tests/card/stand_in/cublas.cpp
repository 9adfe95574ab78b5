// cuBLAS and cuBLASLt: products that are recorded. There are no headers of theirs where there is only torch.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "card.h"

using card::KeepLastError;
using card::stream;
using card::work;

enum Status { SUCCESS = 0, EXECUTION_FAILED = 13 };

struct Handle {
  cudaStream_t stream = nullptr;
  int mode = 0;
};

// ---- handles -------------------------------------------------------------------------------------------------------

API int cublasCreate_v2(Handle** handle) {
  *handle = new Handle;
  return SUCCESS;
}

API int cublasSetStream_v2(Handle* handle, cudaStream_t stream) {
  handle->stream = stream;
  return SUCCESS;
}

API int cublasSetMathMode(Handle* handle, int mode) {
  handle->mode = mode;
  return SUCCESS;
}

API int cublasGetMathMode(Handle* handle, int* mode) {
  *mode = handle->mode;
  return SUCCESS;
}

API int cublasGetPointerMode_v2(Handle*, int* mode) {
  *mode = 0;  // scalars lie on the host
  return SUCCESS;
}

DOES_NOTHING(cublasDestroy_v2)
DOES_NOTHING(cublasSetWorkspace_v2)
DOES_NOTHING(cublasSetPointerMode_v2)

// ---- products ------------------------------------------------------------------------------------------------------

#define PRODUCT(name)                                                        \
  API int name(Handle* handle) {                                             \
    KeepLastError keep;                                                      \
    return work(stream(handle->stream), #name) ? EXECUTION_FAILED : SUCCESS; \
  }
PRODUCT(cublasGemmEx)
PRODUCT(cublasSgemm_v2)
PRODUCT(cublasSgemmEx)
PRODUCT(cublasGemmStridedBatchedEx)
PRODUCT(cublasSgemmStridedBatched)
PRODUCT(cublasSgemv_v2)

// ---- cuBLASLt ------------------------------------------------------------------------------------------------------

struct Heuristic {  // cublasLtMatmulHeuristicResult_t
  uint64_t algorithm[8];
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};

API int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int, Heuristic* found,
                                       int* count) {
  memset(found, 0, sizeof *found);
  *count = 1;
  return SUCCESS;
}

API int cublasLtMatmul(void*, void*, const void*, const void*, void*, const void*, void*, const void*, const void*,
                       void*, void*, void*, const void*, void*, size_t, cudaStream_t handle) {
  KeepLastError keep;
  return work(stream(handle), "cublasLtMatmul") ? EXECUTION_FAILED : SUCCESS;
}

MAKES_DESCRIPTOR(cublasLtMatmulPreferenceCreate)
MAKES_DESCRIPTOR(cublasLtMatmulDescCreate)
MAKES_DESCRIPTOR(cublasLtMatrixLayoutCreate)
DOES_NOTHING(cublasLtMatmulPreferenceDestroy)
DOES_NOTHING(cublasLtMatmulDescDestroy)
DOES_NOTHING(cublasLtMatrixLayoutDestroy)
DOES_NOTHING(cublasLtMatmulPreferenceSetAttribute)
DOES_NOTHING(cublasLtMatmulDescSetAttribute)
DOES_NOTHING(cublasLtMatrixLayoutSetAttribute)
