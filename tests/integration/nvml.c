/* What nvidia-ml-py loads as libnvidia-ml.so.1, on machines without a GPU: two cards that nobody has.
 * A file "blocked" or "unloaded" in the folder FAKE_NVML makes it behave as such a driver does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is(const char *state) {
  char path[4096];
  const char *folder = getenv("FAKE_NVML");
  if (folder == NULL) return 0;
  snprintf(path, sizeof path, "%s/%s", folder, state);
  return access(path, F_OK) == 0;
}

struct memory { unsigned long long total, free, used; };
struct rates { unsigned gpu, memory; };
static int cards[2];

const char *nvmlErrorString(int code) { return code == 9 ? "Driver Not Loaded" : "Unknown Error"; }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return is("unloaded") ? 9 : 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) {
  while (is("blocked")) usleep(10000);
  *count = 2;
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, int **device) { *device = &cards[index]; return 0; }
int nvmlDeviceGetMemoryInfo(int *device, struct memory *memory) {
  (void)device;
  memory->total = 80ull << 30;
  memory->used = 20ull << 30;
  memory->free = memory->total - memory->used;
  return 0;
}
int nvmlDeviceGetUtilizationRates(int *device, struct rates *rates) {
  if (device == &cards[1]) return 3; /* not supported, as for a part of a GPU */
  rates->gpu = 75;
  rates->memory = 10;
  return 0;
}
int nvmlDeviceGetName(int *device, char *name, unsigned size) {
  snprintf(name, size, "Test GPU %d", (int)(device - cards));
  return 0;
}
int nvmlDeviceGetUUID(int *device, char *uuid, unsigned size) {
  snprintf(uuid, size, "GPU-%d", (int)(device - cards));
  return 0;
}
