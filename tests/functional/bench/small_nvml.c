// The few exports of libnvidia-ml.so.1 that a benchmark samples, answering from the lines of $SMALL_NVML:
//   lost=0|1  temperature=C  throttle=MASK  utilisation=PERCENT  power=MILLIWATT  clock=MHZ  ecc=N
// read anew at each call, so that a test changes a GPU while it is measured. Two GPUs.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
enum { OK = 0, NOT_SUPPORTED = 3, TIMEOUT = 10, GPU_IS_LOST = 15 };
static int devices[2];

EXPORT int vault_cube_simulated = 1;

static unsigned long long value(const char *key) {
    char line[128];
    unsigned long long found = 0;
    FILE *file = fopen(getenv("SMALL_NVML"), "r");
    if (!file) return 0;
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == '=') found = strtoull(line + strlen(key) + 1, NULL, 0);
    fclose(file);
    return found;
}
// the second GPU is the one that is lost
static int state(void *device) { return device == &devices[1] && value("lost") ? GPU_IS_LOST : OK; }

EXPORT int nvmlInitWithFlags(unsigned flags) { (void)flags; return OK; }
EXPORT int nvmlShutdown(void) { return OK; }
EXPORT const char *nvmlErrorString(int code) { return code == GPU_IS_LOST ? "GPU is lost" : "Unknown Error"; }
EXPORT int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "580.95.05"); return OK; }
EXPORT int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return OK; }
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = &devices[index]; return OK; }
EXPORT int nvmlDeviceGetName(void *device, char *text, unsigned size) { snprintf(text, size, "NVIDIA GeForce RTX 5090"); return state(device); }
EXPORT int nvmlDeviceGetUUID(void *device, char *text, unsigned size) {
    snprintf(text, size, "GPU-%d", device == &devices[1]);
    return state(device);
}
EXPORT int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *memory) {
    memory[0] = 32607ULL << 20; memory[1] = 32000ULL << 20; memory[2] = 607ULL << 20;
    return state(device);
}
EXPORT int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *limit) { *limit = 575000; return state(device); }
EXPORT int nvmlDeviceGetUtilizationRates(void *device, unsigned *rates) { rates[0] = value("utilisation"); rates[1] = 0; return state(device); }
EXPORT int nvmlDeviceGetPowerUsage(void *device, unsigned *power) { *power = value("power"); return state(device); }
EXPORT int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius) { (void)sensor; *celsius = value("temperature"); return state(device); }
EXPORT int nvmlDeviceGetClockInfo(void *device, int kind, unsigned *clock) { (void)kind; *clock = value("clock"); return state(device); }
EXPORT int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *mask) { *mask = value("throttle"); return state(device); }
EXPORT int nvmlDeviceGetTotalEccErrors(void *device, int kind, int counter, unsigned long long *count) {
    (void)kind; (void)counter;
    *count = value("ecc");
    return state(device);
}
