// The state of the card, the rules of stream capture, and what tests ask of both.
#include "card.h"

#include <sys/stat.h>
#include <time.h>

#include <cstdlib>

namespace card {

std::recursive_mutex mutex;
std::map<unsigned long long, Capture*> captures;
Stream legacy;
Graph last_graph;
size_t captured = 0, launched = 0;
size_t total_bytes = 141ull << 30, used_bytes = 0;
thread_local cudaError_t last_error = cudaSuccess;
thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

static Stream per_thread;
static std::vector<std::string> violations;
static std::string fail_on;  // work of which the name has this fails when it is captured; empty: none

Stream* stream(cudaStream_t handle) {
  if (!handle || handle == cudaStreamLegacy)
    return &legacy;
  if (handle == cudaStreamPerThread)
    return &per_thread;
  return (Stream*)handle;
}

cudaError_t failed(cudaError_t error) {
  if (error != cudaSuccess)
    last_error = error;
  return error;
}

cudaError_t forbid(const std::string& what, Capture* capture) {
  violations.push_back(what);
  capture->invalid = true;
  return failed(cudaErrorStreamCaptureUnsupported);
}

cudaError_t unsafe(const char* what) {
  if (thread_mode == cudaStreamCaptureModeRelaxed)
    return cudaSuccess;
  for (auto& [id, capture] : captures) {
    bool everywhere = capture->mode == cudaStreamCaptureModeGlobal && thread_mode == cudaStreamCaptureModeGlobal;
    bool here = capture->mode != cudaStreamCaptureModeRelaxed && capture->owner == std::this_thread::get_id();
    if (everywhere || here)
      return forbid(what, capture);
  }
  return cudaSuccess;
}

static timespec now() {
  timespec found;
  clock_gettime(CLOCK_REALTIME, &found);
  return found;
}

static timespec began = now();

// Whether the card has failed since this process began: the file that CARD_FAULT names is younger.
static bool broken() {
  static const char* file = getenv("CARD_FAULT");
  struct stat found;
  if (!file || stat(file, &found))
    return false;
  const timespec& changed = found.st_mtim;
  return changed.tv_sec != began.tv_sec ? changed.tv_sec > began.tv_sec : changed.tv_nsec > began.tv_nsec;
}

cudaError_t work(Stream* stream, const std::string& name) {
  Lock lock(mutex);
  if (stream == &legacy) {  // it waits for all streams, those that are captured too
    for (auto& [id, capture] : captures) {
      if (capture->mode != cudaStreamCaptureModeRelaxed) {
        forbid("work on the legacy stream while another is captured: " + name, capture);
        return failed(cudaErrorStreamCaptureImplicit);
      }
    }
  }
  if (broken())
    return failed(cudaErrorIllegalAddress);
  if (!stream->capture)
    return cudaSuccess;
  if (!fail_on.empty() && name.find(fail_on) != std::string::npos)
    return forbid("as the test asked: " + name, stream->capture);
  if (stream->capture->invalid)
    return failed(cudaErrorStreamCaptureInvalidated);
  stream->capture->graph->push_back(name);
  stream->works++;
  if (stream != stream->capture->origin)
    stream->capture->parted.insert(stream);
  return cudaSuccess;
}

}  // namespace card

using namespace card;

// ---- what tests ask ------------------------------------------------------------------------------------------------

API size_t card_nodes() {
  Lock lock(mutex);
  return last_graph.size();
}

API const char* card_node(size_t number) {
  Lock lock(mutex);
  return last_graph.at(number).c_str();
}

API size_t card_captured() {
  Lock lock(mutex);
  return captured;
}

API size_t card_launched() {
  Lock lock(mutex);
  return launched;
}

API size_t card_violations() {
  Lock lock(mutex);
  return violations.size();
}

API const char* card_violation(size_t number) {
  Lock lock(mutex);
  return violations.at(number).c_str();
}

API void card_clear_violations() {
  Lock lock(mutex);
  violations.clear();
}

API void card_fail_on(const char* name) {
  Lock lock(mutex);
  fail_on = name;
}

API size_t card_used() {
  Lock lock(mutex);
  return used_bytes;
}

API void card_set_total(size_t bytes) {
  Lock lock(mutex);
  total_bytes = bytes;
}

// For the driver's library beside this one.
API int card_work(void* handle, const char* name) {
  return work(stream((cudaStream_t)handle), name);
}
