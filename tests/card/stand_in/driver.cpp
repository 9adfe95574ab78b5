// libcuda.so.1, the driver's library, for those that load it by name: torch's hasPrimaryContext, and Triton. What
// Triton launches is recorded as other kernels are, by the library of the runtime, which is preloaded.
#include <cuda.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <map>
#include <mutex>
#include <string>

#define API extern "C" __attribute__((visibility("default")))

static std::mutex mutex;

// ---- the device ----------------------------------------------------------------------------------------------------

API CUresult cuInit(unsigned) {
  return CUDA_SUCCESS;
}

API CUresult cuDriverGetVersion(int* version) {
  *version = 13000;
  return CUDA_SUCCESS;
}

API CUresult cuDeviceGetCount(int* count) {
  *count = 1;
  return CUDA_SUCCESS;
}

API CUresult cuDeviceGet(CUdevice* device, int) {
  *device = 0;
  return CUDA_SUCCESS;
}

// Whether a daemon of the multi-process service answers in the folder of its socket.
static int mps() {
  const char* named = getenv("CUDA_MPS_PIPE_DIRECTORY");
  sockaddr_un address = {AF_UNIX, {}};
  snprintf(address.sun_path, sizeof address.sun_path, "%s/control", named ? named : "/tmp/nvidia-mps");
  int client = socket(AF_UNIX, SOCK_STREAM, 0);
  int failed = connect(client, (sockaddr*)&address, sizeof address);
  close(client);
  return !failed;
}

API CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
  static const std::map<CUdevice_attribute, int> known = {
      {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 132},
      {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 9},
      {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0},
      {CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 49152},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 232448},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 233472},
      {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 65536},
      {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1980000},
      {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 3201000},
      {CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 6144},
      {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024},
  };
  auto found = known.find(attribute);
  *value = attribute == CU_DEVICE_ATTRIBUTE_MPS_ENABLED ? mps() : found == known.end() ? 1 : found->second;
  return CUDA_SUCCESS;
}

API CUresult cuDevicePrimaryCtxGetState(CUdevice, unsigned* flags, int* active) {
  *flags = 0;
  *active = 1;
  return CUDA_SUCCESS;
}

API CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
  *context = (CUcontext)1;
  return CUDA_SUCCESS;
}

API CUresult cuCtxGetCurrent(CUcontext* context) {
  *context = (CUcontext)1;
  return CUDA_SUCCESS;
}

API CUresult cuCtxSetCurrent(CUcontext) {
  return CUDA_SUCCESS;
}

API CUresult cuCtxGetDevice(CUdevice* device) {
  *device = 0;
  return CUDA_SUCCESS;
}

API CUresult cuCtxGetLimit(size_t* value, CUlimit) {
  *value = 0;
  return CUDA_SUCCESS;
}

API CUresult cuCtxSetLimit(CUlimit, size_t) {
  return CUDA_SUCCESS;
}

API CUresult cuPointerGetAttribute(void* value, CUpointer_attribute, CUdeviceptr address) {
  *(CUdeviceptr*)value = address;
  return CUDA_SUCCESS;
}

API CUresult cuGetErrorString(CUresult, const char** text) {
  *text = "an error of the driver";
  return CUDA_SUCCESS;
}

API CUresult cuGetErrorName(CUresult, const char** text) {
  *text = "CUDA_ERROR";
  return CUDA_SUCCESS;
}

// ---- modules and functions -----------------------------------------------------------------------------------------

static std::map<CUfunction, std::string> names;

API CUresult cuModuleLoadData(CUmodule* module, const void*) {
  *module = (CUmodule) new int;
  return CUDA_SUCCESS;
}

API CUresult cuModuleLoadDataEx(CUmodule* module, const void* data, unsigned, CUjit_option*, void**) {
  return cuModuleLoadData(module, data);
}

API CUresult cuModuleLoad(CUmodule* module, const char*) {
  return cuModuleLoadData(module, nullptr);
}

API CUresult cuModuleUnload(CUmodule) {
  return CUDA_SUCCESS;
}

API CUresult cuModuleGetFunction(CUfunction* function, CUmodule, const char* name) {
  std::lock_guard<std::mutex> lock(mutex);
  *function = (CUfunction) new int;
  names[*function] = std::string("triton ") + name;
  return CUDA_SUCCESS;
}

API CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction) {
  *value = attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024
           : attribute == CU_FUNC_ATTRIBUTE_NUM_REGS            ? 32
                                                                : 0;
  return CUDA_SUCCESS;
}

API CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) {
  return CUDA_SUCCESS;
}

API CUresult cuFuncSetCacheConfig(CUfunction, CUfunc_cache) {
  return CUDA_SUCCESS;
}

API CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction, int threads, size_t) {
  *blocks = threads ? 2048 / threads : 1;
  return CUDA_SUCCESS;
}

API CUresult cuOccupancyMaxActiveClusters(int* clusters, CUfunction, const CUlaunchConfig*) {
  *clusters = 1;
  return CUDA_SUCCESS;
}

// ---- launches ------------------------------------------------------------------------------------------------------

static CUresult launch(CUfunction function, CUstream stream) {
  using Work = int (*)(void*, const char*);
  static auto work = (Work)dlsym(RTLD_DEFAULT, "card_work");
  std::lock_guard<std::mutex> lock(mutex);
  return work && work(stream, names[function].c_str()) ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
}

API CUresult cuLaunchKernel(CUfunction function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                            CUstream stream, void**, void**) {
  return launch(function, stream);
}

API CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                                       unsigned, CUstream stream, void**) {
  return launch(function, stream);
}

API CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void**, void**) {
  return launch(function, config->hStream);
}

// ---- what Triton looks up and never calls --------------------------------------------------------------------------

#define NEVER_CALLED(name)                  \
  API int never_called_##name() asm(#name); \
  int never_called_##name() {               \
    return 0;                               \
  }
NEVER_CALLED(cuTensorMapEncodeTiled)
NEVER_CALLED(cuTensorMapEncodeIm2col)
NEVER_CALLED(cuTensorMapEncodeIm2colWide)
NEVER_CALLED(cuLinkCreate_v2)
NEVER_CALLED(cuLinkAddData_v2)
NEVER_CALLED(cuLinkComplete)
