// A libcuda.so.1 for tests: it copies nothing, and tells the fake NVML, by $FAKE_NVML.busy.INDEX, which link is busy.
//
// It reads the fake NVML's file. cuda.order=2,0,3 are the GPUs that CUDA sees, by NVML's index, in CUDA's order: a GPU
// that is lost is not among them, and the fastest comes first. Without the key CUDA sees all that NVML lists, as it does.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 64, INVALID_DEVICE = 101, UNKNOWN = 999 };
static int order[MOST], visible;
static char buses[MOST][32];
static __thread int current = -1;

int cuInit(unsigned flags) {
    char text[512];
    int all = 0, n = 0, index, after;
    FILE *file = fopen(getenv("FAKE_NVML"), "r");
    if (flags || !file) return flags ? 1 : 100;
    while (fgets(text, sizeof text, file)) {
        sscanf(text, "gpus=%d", &all);
        if (sscanf(text, "gpu.%d.bus_id=%n", &index, &n) == 1 && n && index < MOST)
            snprintf(buses[index], sizeof buses[index], "%.*s", (int)strcspn(text + n, "\n"), text + n);
        if (!strncmp(text, "cuda.order=", 11))
            for (char *at = text + 11; sscanf(at, "%d%n", &index, &after) == 1; at += after + (at[after] == ','))
                order[visible++] = index;
        n = 0;
    }
    fclose(file);
    for (index = 0; !visible && index < all && index < MOST; index++) order[index] = index;
    if (!visible) visible = all;
    return 0;
}
int cuDeviceGet(int *device, int ordinal) {
    if (ordinal < 0 || ordinal >= visible) return INVALID_DEVICE;
    *device = ordinal;
    return 0;
}
int cuDeviceGetByPCIBusId(int *device, const char *text) {
    unsigned a[3], b[3];
    if (sscanf(text, "%x:%x:%x", &a[0], &a[1], &a[2]) != 3) return 1;
    for (int ordinal = 0; ordinal < visible; ordinal++) {
        if (sscanf(buses[order[ordinal]], "%x:%x:%x", &b[0], &b[1], &b[2]) == 3 && !memcmp(a, b, sizeof a)) {
            *device = ordinal;
            return 0;
        }
    }
    return INVALID_DEVICE;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)(long)(device + 1); return 0; }
int cuCtxSetCurrent(void *context) { current = (int)(long)context - 1; return context ? 0 : 201; }
int cuMemHostAlloc(void **memory, size_t size, unsigned flags) { (void)flags; *memory = malloc(size); return *memory ? 0 : 2; }
int cuMemAlloc_v2(unsigned long *memory, size_t size) { *memory = size; return 0; }
int cuMemcpyHtoD_v2(unsigned long there, const void *here, size_t size) {
    char path[1024];
    if (!there || !here || !size || current < 0) return 1;
    snprintf(path, sizeof path, "%s.busy.%d", getenv("FAKE_NVML"), order[current]);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0) return UNKNOWN;
    int wrote = write(file, "x", 1) == 1;
    close(file);
    usleep(10000);
    return wrote ? 0 : UNKNOWN;
}
