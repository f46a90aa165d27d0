// A libcuda.so.1 for tests: it copies nothing, and tells the fake NVML, by $FAKE_NVML.busy, that the links are busy.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int cuInit(unsigned flags) { return flags ? 1 : 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)(long)(device + 1); return 0; }
int cuCtxSetCurrent(void *context) { return context ? 0 : 201; }
int cuMemHostAlloc(void **memory, size_t size, unsigned flags) { (void)flags; *memory = malloc(size); return *memory ? 0 : 2; }
int cuMemAlloc_v2(unsigned long *memory, size_t size) { *memory = size; return 0; }
int cuMemcpyHtoD_v2(unsigned long there, const void *here, size_t size) {
    char path[1024];
    if (!there || !here || !size) return 1;
    snprintf(path, sizeof path, "%s.busy", getenv("FAKE_NVML"));
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0) return 999;
    int wrote = write(file, "x", 1) == 1;
    close(file);
    usleep(10000);
    return wrote ? 0 : 999;
}
