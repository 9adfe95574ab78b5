// cuDNN's graph API, with one engine that takes every convolution and needs no workspace.
#include <cudnn_graph.h>

#include <cstdlib>

#include "card.h"

using card::KeepLastError;
using card::stream;
using card::work;

struct cudnnContext {
  cudaStream_t stream = nullptr;
};

// A descriptor of the back end knows its operation, which goes from the operation to the plan that executes it.
struct Descriptor {
  std::string operation;
};

// ---- the library ---------------------------------------------------------------------------------------------------

API size_t cudnnGetVersion() {
  return 92400;
}

API size_t cudnnGetCudartVersion() {
  return 13000;
}

API cudnnStatus_t cudnnGetProperty(libraryPropertyType kind, int* value) {
  *value = kind == MAJOR_VERSION ? 9 : kind == MINOR_VERSION ? 24 : 0;
  return CUDNN_STATUS_SUCCESS;
}

API const char* cudnnGetErrorString(cudnnStatus_t) {
  return "an error of cuDNN";
}

API void cudnnGetLastErrorString(char* message, size_t length) {
  if (length)
    *message = 0;
}

API cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  *handle = new cudnnContext;
  return CUDNN_STATUS_SUCCESS;
}

API cudnnStatus_t cudnnDestroy(cudnnHandle_t) {
  return CUDNN_STATUS_SUCCESS;
}

API cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}

API cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t* stream) {
  *stream = handle->stream;
  return CUDNN_STATUS_SUCCESS;
}

// ---- the back end: operations, engines, plans ----------------------------------------------------------------------

API cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t kind, cudnnBackendDescriptor_t* made) {
  auto descriptor = new Descriptor;
  if (kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)
    descriptor->operation = "cudnn convolution forward";
  else if (kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR)
    descriptor->operation = "cudnn convolution backward data";
  else if (kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR)
    descriptor->operation = "cudnn convolution backward filter";
  *made = (cudnnBackendDescriptor_t)descriptor;
  return CUDNN_STATUS_SUCCESS;
}

API cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  delete (Descriptor*)descriptor;
  return CUDNN_STATUS_SUCCESS;
}

API cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t) {
  return CUDNN_STATUS_SUCCESS;
}

API cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                           cudnnBackendAttributeType_t type, int64_t count, const void* value) {
  if (type != CUDNN_TYPE_BACKEND_DESCRIPTOR || count <= 0)
    return CUDNN_STATUS_SUCCESS;
  switch (name) {
    case CUDNN_ATTR_OPERATIONGRAPH_OPS:
    case CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH:
    case CUDNN_ATTR_ENGINE_OPERATION_GRAPH:
    case CUDNN_ATTR_ENGINECFG_ENGINE:
    case CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG:
      ((Descriptor*)descriptor)->operation = ((Descriptor* const*)value)[0]->operation;
    default:
      return CUDNN_STATUS_SUCCESS;
  }
}

API cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                           cudnnBackendAttributeType_t type, int64_t asked, int64_t* count,
                                           void* value) {
  int64_t ignored;
  if (!count)
    count = &ignored;
  *count = 0;
  if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS || name == CUDNN_ATTR_ENGINECFG_ENGINE) {
    *count = 1;
    if (value && asked > 0)
      ((Descriptor**)value)[0]->operation = ((Descriptor*)descriptor)->operation;
  } else if (type == CUDNN_TYPE_INT64 && value && asked > 0) {  // the workspace among others
    *count = 1;
    *(int64_t*)value = 0;
  }
  return CUDNN_STATUS_SUCCESS;
}

API cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t) {
  KeepLastError keep;
  return work(stream(handle->stream), ((Descriptor*)plan)->operation) ? CUDNN_STATUS_EXECUTION_FAILED
                                                                      : CUDNN_STATUS_SUCCESS;
}

// ---- the older API -------------------------------------------------------------------------------------------------

MAKES_DESCRIPTOR(cudnnCreateTensorDescriptor)
MAKES_DESCRIPTOR(cudnnCreateFilterDescriptor)
MAKES_DESCRIPTOR(cudnnCreateConvolutionDescriptor)
MAKES_DESCRIPTOR(cudnnCreateActivationDescriptor)
MAKES_DESCRIPTOR(cudnnCreateDropoutDescriptor)
DOES_NOTHING(cudnnDestroyTensorDescriptor)
DOES_NOTHING(cudnnDestroyFilterDescriptor)
DOES_NOTHING(cudnnDestroyConvolutionDescriptor)
DOES_NOTHING(cudnnSetTensorNdDescriptor)
DOES_NOTHING(cudnnSetFilterNdDescriptor)
DOES_NOTHING(cudnnSetConvolutionNdDescriptor)
DOES_NOTHING(cudnnSetConvolutionGroupCount)
DOES_NOTHING(cudnnSetConvolutionMathType)
DOES_NOTHING(cudnnSetActivationDescriptor)

API int cudnnBatchNormalizationForwardTrainingEx(cudnnHandle_t handle) {
  return work(stream(handle->stream), "cudnn batch norm forward");
}

API int cudnnBatchNormalizationForwardInference(cudnnHandle_t handle) {
  return work(stream(handle->stream), "cudnn batch norm inference");
}

API int cudnnBatchNormalizationBackwardEx(cudnnHandle_t handle) {
  return work(stream(handle->stream), "cudnn batch norm backward");
}

API int cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(void*, int, int, void*, void*, void*, void*, void*,
                                                                 size_t* bytes) {
  *bytes = 0;
  return 0;
}

API int cudnnGetBatchNormalizationTrainingExReserveSpaceSize(void*, int, int, void*, void*, size_t* bytes) {
  *bytes = 0;
  return 0;
}

API int cudnnGetBatchNormalizationBackwardExWorkspaceSize(void*, int, int, void*, void*, void*, void*, void*, void*,
                                                          void*, size_t* bytes) {
  *bytes = 0;
  return 0;
}
