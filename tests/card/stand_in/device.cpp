// The CUDA runtime: the device, its memory, and its kernels.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unordered_map>

#include "card.h"

using namespace card;

// ---- the device: an H200 -------------------------------------------------------------------------------------------

API cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

API cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

API cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : failed(cudaErrorInvalidDevice);
}

API cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

API cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

API cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  memset(p, 0, sizeof *p);
  strcpy(p->name, "a card that is none");
  p->totalGlobalMem = total_bytes;
  p->major = 9;
  p->minor = 0;
  p->multiProcessorCount = 132;
  p->warpSize = 32;
  p->maxThreadsPerBlock = 1024;
  p->maxThreadsPerMultiProcessor = 2048;
  p->maxBlocksPerMultiProcessor = 32;
  p->sharedMemPerBlock = 49152;
  p->sharedMemPerBlockOptin = 232448;
  p->sharedMemPerMultiprocessor = 233472;
  p->reservedSharedMemPerBlock = 1024;
  p->regsPerBlock = p->regsPerMultiprocessor = 65536;
  p->maxGridSize[0] = 2147483647;
  p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
  p->maxThreadsDim[2] = 64;
  p->l2CacheSize = 60 << 20;
  p->textureAlignment = 512;
  p->totalConstMem = 65536;
  p->concurrentKernels = p->unifiedAddressing = p->cooperativeLaunch = 1;
  p->managedMemory = p->canMapHostMemory = p->asyncEngineCount = 1;
  p->memoryBusWidth = 6144;
  p->maxTexture1D = 131072;
  p->globalL1CacheSupported = p->localL1CacheSupported = 1;
  return cudaSuccess;
}

API cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  static const std::map<cudaDeviceAttr, int> known = {
      {cudaDevAttrMultiProcessorCount, 132},
      {cudaDevAttrComputeCapabilityMajor, 9},
      {cudaDevAttrComputeCapabilityMinor, 0},
      {cudaDevAttrMaxThreadsPerBlock, 1024},
      {cudaDevAttrMaxThreadsPerMultiProcessor, 2048},
      {cudaDevAttrWarpSize, 32},
      {cudaDevAttrMaxSharedMemoryPerBlock, 49152},
      {cudaDevAttrMaxSharedMemoryPerBlockOptin, 232448},
      {cudaDevAttrMaxSharedMemoryPerMultiprocessor, 233472},
      {cudaDevAttrMaxGridDimX, 2147483647},
      {cudaDevAttrMaxGridDimY, 65535},
      {cudaDevAttrMaxGridDimZ, 65535},
      {cudaDevAttrMaxRegistersPerBlock, 65536},
      {cudaDevAttrCooperativeLaunch, 1},
      {cudaDevAttrL2CacheSize, 60 << 20},
      {cudaDevAttrMaxBlocksPerMultiprocessor, 32},
  };
  auto found = known.find(attribute);
  *value = found == known.end() ? 0 : found->second;
  return cudaSuccess;
}

API cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

API cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 0;
  return cudaSuccess;
}

API cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int) {
  snprintf(text, length, "0000:00:00.0");
  return cudaSuccess;
}

API cudaError_t cudaDeviceSynchronize() {
  Lock lock(mutex);
  return captures.empty() ? cudaSuccess : forbid("cudaDeviceSynchronize", captures.begin()->second);
}

DOES_NOTHING(cudaProfilerStart)
DOES_NOTHING(cudaProfilerStop)

// torch falls back to the runtime where the driver does not offer a function.
API cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned, unsigned long long,
                                                 cudaDriverEntryPointQueryResult* result) {
  *function = nullptr;
  if (result)
    *result = cudaDriverEntryPointSymbolNotFound;
  return cudaErrorSymbolNotFound;
}

// ---- errors --------------------------------------------------------------------------------------------------------

API cudaError_t cudaGetLastError() {
  cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

API cudaError_t cudaPeekAtLastError() {
  return last_error;
}

API const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureImplicit:
      return "operation would make the legacy stream depend on a capturing blocking stream";
    case cudaErrorStreamCaptureUnjoined:
      return "capturing stream has unjoined work";
    default:
      return "another error";
  }
}

API const char* cudaGetErrorName(cudaError_t error) {
  return cudaGetErrorString(error);
}

// ---- memory --------------------------------------------------------------------------------------------------------

static std::map<char*, size_t> on_device, pinned;  // where each piece begins, and its bytes

static bool inside(const std::map<char*, size_t>& pieces, const void* address) {
  auto next = pieces.upper_bound((char*)address);
  if (next == pieces.begin())
    return false;
  --next;
  return (char*)address < next->first + next->second;
}

static size_t whole_pages(size_t bytes) {
  return std::max<size_t>(4096, (bytes + 4095) & ~size_t(4095));
}

API cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  Lock lock(mutex);
  *total = total_bytes;
  *free = total_bytes - used_bytes;
  return cudaSuccess;
}

// Pages of the host, which takes them only when they are written: a kernel never writes.
API cudaError_t cudaMalloc(void** address, size_t bytes) {
  Lock lock(mutex);
  if (auto error = unsafe("cudaMalloc"))
    return error;
  size_t size = whole_pages(bytes);
  *address = nullptr;
  if (used_bytes + size > total_bytes)
    return failed(cudaErrorMemoryAllocation);
  void* found = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (found == MAP_FAILED)
    return failed(cudaErrorMemoryAllocation);
  on_device[(char*)found] = size;
  used_bytes += size;
  *address = found;
  return cudaSuccess;
}

API cudaError_t cudaFree(void* address) {
  Lock lock(mutex);
  if (!address)
    return cudaSuccess;
  if (auto error = unsafe("cudaFree"))
    return error;
  auto piece = on_device.find((char*)address);
  if (piece == on_device.end())
    return failed(cudaErrorInvalidValue);
  munmap(address, piece->second);
  used_bytes -= piece->second;
  on_device.erase(piece);
  return cudaSuccess;
}

API cudaError_t cudaHostAlloc(void** address, size_t bytes, unsigned) {
  Lock lock(mutex);
  *address = aligned_alloc(4096, whole_pages(bytes));
  pinned[(char*)*address] = bytes;
  return cudaSuccess;
}

API cudaError_t cudaFreeHost(void* address) {
  Lock lock(mutex);
  pinned.erase((char*)address);
  free(address);
  return cudaSuccess;
}

API cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
  Lock lock(mutex);
  memset(attributes, 0, sizeof *attributes);
  attributes->type = inside(on_device, address) ? cudaMemoryTypeDevice
                     : inside(pinned, address)  ? cudaMemoryTypeHost
                                                : cudaMemoryTypeUnregistered;
  attributes->devicePointer = attributes->hostPointer = (void*)address;
  return cudaSuccess;
}

API cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  Lock lock(mutex);
  if (auto error = unsafe("cudaMemcpy"))
    return error;
  memmove(to, from, bytes);
  return cudaSuccess;
}

// What kernels would have computed comes back as zeros, so that no index is followed that nobody has computed; one
// number alone as 1, so that a count can be divided by.
static void give_back(void* to, size_t bytes) {
  memset(to, 0, bytes);
  if (bytes <= sizeof(int64_t))
    *(char*)to = 1;
}

API cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t handle) {
  Lock lock(mutex);
  Stream* where = stream(handle);
  bool to_device = inside(on_device, to), from_device = inside(on_device, from);
  if (where->capture && !(to_device || inside(pinned, to)))
    return forbid("a copy to pageable memory", where->capture);
  if (where->capture && !(from_device || inside(pinned, from)))
    return forbid("a copy from pageable memory", where->capture);
  if (auto error = work(where, "copy"))
    return error;
  if (where->capture)
    return cudaSuccess;
  if (from_device && !to_device)
    give_back(to, bytes);
  else
    memmove(to, from, bytes);
  return cudaSuccess;
}

API cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                                  size_t height, cudaMemcpyKind, cudaStream_t handle) {
  Stream* where = stream(handle);
  if (auto error = work(where, "copy"))
    return error;
  for (size_t line = 0; line < height && !where->capture; line++)
    memmove((char*)to + line * to_pitch, (const char*)from + line * from_pitch, width);
  return cudaSuccess;
}

API cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  memset(to, value, bytes);
  return cudaSuccess;
}

API cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t handle) {
  Stream* where = stream(handle);
  if (auto error = work(where, "fill"))
    return error;
  if (!where->capture)
    memset(to, value, bytes);
  return cudaSuccess;
}

API cudaError_t cudaGetSymbolAddress(void** address, const void* symbol) {
  *address = (void*)symbol;
  return cudaSuccess;
}

API cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
  *pool = nullptr;
  return cudaSuccess;
}

DOES_NOTHING(cudaHostRegister)
DOES_NOTHING(cudaHostUnregister)
DOES_NOTHING(cudaMemcpyToSymbol)

// ---- kernels: what nvcc's code registers when torch is loaded, and launches later ----------------------------------

static std::unordered_map<const void*, std::string> functions;  // names, by the address on the host

struct Launch {  // of <<<grid, block, shared, stream>>>
  dim3 grid, block;
  size_t shared;
  void* stream;
};
static thread_local std::vector<Launch> launches;

API void** __cudaRegisterFatBinary(void*) {
  static void* handle;
  return &handle;
}

API void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*,
                                int*) {
  Lock lock(mutex);
  functions[host] = name;
}

DOES_NOTHING(__cudaRegisterFatBinaryEnd)
DOES_NOTHING(__cudaUnregisterFatBinary)
DOES_NOTHING(__cudaInitModule)
DOES_NOTHING(__cudaRegisterVar)

API unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void* stream) {
  launches.push_back({grid, block, shared, stream});
  return 0;
}

API cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  Launch last = launches.back();
  launches.pop_back();
  *grid = last.grid;
  *block = last.block;
  *shared = last.shared;
  *(void**)stream = last.stream;
  return cudaSuccess;
}

API cudaError_t cudaLaunchKernel(const void* function, dim3, dim3, void**, size_t, cudaStream_t handle) {
  Lock lock(mutex);
  auto found = functions.find(function);
  return work(stream(handle), found == functions.end() ? "unknown kernel" : found->second);
}

API cudaError_t cudaLaunchCooperativeKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                                            size_t shared, cudaStream_t stream) {
  return cudaLaunchKernel(function, grid, block, arguments, shared, stream);
}

API cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void** arguments) {
  return cudaLaunchKernel(function, config->gridDim, config->blockDim, arguments, 0, config->stream);
}

API cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = (cudaKernel_t)function;
  return cudaSuccess;
}

API cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, size_t shared,
                                   cudaStream_t stream) {
  return cudaLaunchKernel((const void*)kernel, grid, block, arguments, shared, stream);
}

API cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  memset(attributes, 0, sizeof *attributes);
  attributes->maxThreadsPerBlock = 1024;
  attributes->numRegs = 32;
  attributes->binaryVersion = attributes->ptxVersion = 90;
  attributes->maxDynamicSharedSizeBytes = 232448;
  return cudaSuccess;
}

API cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int threads, size_t) {
  *blocks = threads ? std::min(32, std::max(1, 2048 / threads)) : 1;
  return cudaSuccess;
}

API cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* function, int threads,
                                                                       size_t shared, unsigned) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, threads, shared);
}

DOES_NOTHING(cudaFuncSetAttribute)
DOES_NOTHING(cudaKernelSetAttributeForDevice)
