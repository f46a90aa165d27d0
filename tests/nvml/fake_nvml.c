// A libnvidia-ml.so.1 for tests: the real bindings cross a real library boundary, and a test says what lies behind it.
//
// It answers from the lines KEY=VALUE of $FAKE_NVML, read again whenever the file is replaced, so that a GPU can change
// while it is read. Without the file: the driver is not loaded. fake_nvml.py writes the file, and names the keys.
//   gpu.0.name=…             what nvmlDeviceGetName gives; a key that is absent is "not supported"
//   error.FUNCTION=15        that function fails; gpu.2.error.FUNCTION=… on that GPU; gpu.2.error=… whatever it is asked
//   hang.FUNCTION=1          it returns only when the key is gone; gpu.2.hang.FUNCTION=1
//   crash.FUNCTION=1         it takes its process down
//   gpu.2.lost_after=5       lost with the sixth call since the process began
//   event.0=2 8 79           an event: GPU, type, data
//   since=1764400000.5       when the scenario began, in seconds since 1970
//   KEY@1.5,4=VALUE          the key's value from 1.5 s to 4 s of the scenario; the value `-`: absent
//   KEY@1.5,4=40>90          from 40 to 90 in that time, and 90 from then on
// Compiled with -DOLD it lacks the functions that came with branch 535 and later; with -DNEW it has dropped those that
// NVIDIA announced to remove with CUDA 14 (docs.nvidia.com/deploy/nvml-api, "Deprecation and/or Removal Notices").
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
enum { OK, UNINITIALIZED, INVALID, NOT_SUPPORTED, NOT_FOUND = 6, TOO_SMALL, NO_DRIVER = 9, TIMEOUT, CORRUPTED = 14, LOST,
       DEPRECATED = 26 };
enum { MOST = 64 };

typedef unsigned long long Long;
typedef struct { int index; int calls; } Gpu;
typedef struct { char *key, *value; double from, until; } Line;

EXPORT int vault_cube_simulated = 1;

static Gpu gpus[MOST];
static Line *lines, *timed;
static int count, timed_count, opened;
static double since;
static struct stat seen;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int by_key(const void *a, const void *b) { return strcmp(((const Line *)a)->key, ((const Line *)b)->key); }

static void load(void) {
    const char *path = getenv("FAKE_NVML");
    struct stat now;
    if (!path || stat(path, &now)) { count = 0; return; }
    if (now.st_ino == seen.st_ino && now.st_size == seen.st_size && now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec) return;
    FILE *file = fopen(path, "r");
    if (!file) return;
    for (int n = 0; n < count; n++) { free(lines[n].key); free(lines[n].value); }
    for (int n = 0; n < timed_count; n++) { free(timed[n].key); free(timed[n].value); }
    count = timed_count = 0;
    since = 0;
    char *text = NULL;
    size_t size = 0;
    while (getline(&text, &size, file) > 0) {
        char *value = strchr(text, '=');
        if (!value) continue;
        *value++ = 0;
        value[strcspn(value, "\n")] = 0;
        char *when = strchr(text, '@');
        if (!strcmp(text, "since")) since = strtod(value, NULL);
        if (when) {
            Line line = {NULL, strdup(value), 0, 0};
            sscanf(when, "@%lf,%lf", &line.from, &line.until);
            *when = 0;
            line.key = strdup(text);
            timed = realloc(timed, (size_t)(timed_count + 1) * sizeof *timed);
            timed[timed_count++] = line;
            continue;
        }
        lines = realloc(lines, (size_t)(count + 1) * sizeof *lines);
        lines[count++] = (Line){strdup(text), strdup(value), 0, 0};
    }
    free(text);
    fclose(file);
    qsort(lines, (size_t)count, sizeof *lines, by_key);
    seen = now;
}

// what a timed line says now; *said: whether it says anything
static const char *timed_text(const Line *line, int *said) {
    static _Thread_local char buffer[8][32];
    static _Thread_local unsigned turn;
    struct timespec clock;
    clock_gettime(CLOCK_REALTIME, &clock);
    double now = (double)clock.tv_sec + (double)clock.tv_nsec / 1e9 - since;
    char *second = strchr(line->value, '>');
    *said = now >= line->from && (second || now < line->until);
    if (!*said || !second) return strcmp(line->value, "-") ? line->value : NULL;
    double first = strtod(line->value, NULL), last = strtod(second + 1, NULL);
    double share = now < line->until ? (now - line->from) / (line->until - line->from) : 1;
    char *out = buffer[turn++ % 8];
    snprintf(out, sizeof buffer[0], "%.0f", first + (last - first) * share);
    return out;
}
static const char *system_text(const char *key) {
    Line wanted = {(char *)key, NULL, 0, 0};
    Line *found = count ? bsearch(&wanted, lines, (size_t)count, sizeof *lines, by_key) : NULL;
    const char *value = found ? found->value : NULL;
    for (int n = 0; n < timed_count; n++) {
        int said;
        if (strcmp(timed[n].key, key)) continue;
        const char *now = timed_text(&timed[n], &said);
        if (said) value = now;
    }
    return value;
}
static const char *text_of(Gpu *gpu, const char *key) {
    char whole[256];
    if (!gpu) return system_text(key);
    snprintf(whole, sizeof whole, "gpu.%d.%s", gpu->index, key);
    return system_text(whole);
}
static int number_of(Gpu *gpu, const char *key, Long *out) {
    const char *value = text_of(gpu, key);
    if (value) *out = strtoull(value, NULL, 0);
    return value ? OK : NOT_SUPPORTED;
}
static int unsigned_of(Gpu *gpu, const char *key, unsigned *out) {
    Long value;
    int code = number_of(gpu, key, &value);
    if (!code) *out = (unsigned)value;
    return code;
}
static int set_of(Gpu *gpu, const char *what, const char *function, Long *out) {
    char key[160];
    snprintf(key, sizeof key, "%s.%s", what, function);
    *out = 0;
    return (gpu && !number_of(gpu, key, out) && *out) || (!number_of(NULL, key, out) && *out);
}

// what every function does first: read the file, then fail as it says
static int enter(const char *function, Gpu *gpu) {
    Long value;
    pthread_mutex_lock(&lock);
    load();
    pthread_mutex_unlock(&lock);
    while (set_of(gpu, "hang", function, &value)) {
        usleep(10000);
        pthread_mutex_lock(&lock);
        load();
        pthread_mutex_unlock(&lock);
    }
    if (set_of(gpu, "crash", function, &value)) raise(SIGSEGV);
    if (!opened) return UNINITIALIZED;
    if (!number_of(NULL, "error", &value) && value) return (int)value;
    if (gpu) {
        if (gpu < gpus || gpu >= gpus + MOST) return INVALID;
        if (!number_of(gpu, "lost_after", &value) && (Long)gpu->calls++ >= value) return LOST;
        if (!number_of(gpu, "error", &value) && value) return (int)value;
    }
    return set_of(gpu, "error", function, &value) ? (int)value : OK;
}
#define ENTER(gpu) do { int code_ = enter(__func__, gpu); if (code_) return code_; } while (0)

static int give_text(Gpu *gpu, const char *key, char *out, unsigned size) {
    const char *value = text_of(gpu, key);
    if (!value) return NOT_SUPPORTED;
    if (strlen(value) + 1 > size) return TOO_SMALL;
    strcpy(out, value);
    return OK;
}

#define TEXT(function, key) EXPORT int function(Gpu *g, char *out, unsigned size) { ENTER(g); return give_text(g, key, out, size); }
#define UNSIGNED(function, key) EXPORT int function(Gpu *g, unsigned *out) { ENTER(g); return unsigned_of(g, key, out); }
#define LONG(function, key) EXPORT int function(Gpu *g, Long *out) { ENTER(g); return number_of(g, key, out); }
#define INDEXED(function, form) EXPORT int function(Gpu *g, unsigned n, unsigned *out) { \
    char key[64]; ENTER(g); snprintf(key, sizeof key, form, n); return unsigned_of(g, key, out); }
#define PAIR(function, first, second) EXPORT int function(Gpu *g, unsigned *a, unsigned *b) { \
    ENTER(g); int code = unsigned_of(g, first, a); return code ? code : unsigned_of(g, second, b); }

EXPORT int nvmlInitWithFlags(unsigned flags) {
    Long code;
    (void)flags;
    int was = opened;
    opened = 1;
    int failed = enter(__func__, NULL);
    opened = was;
    if (failed) return failed;
    if (!number_of(NULL, "init_error", &code) && code) return (int)code;
    if (!count) return NO_DRIVER;
    for (int n = 0; n < MOST; n++) gpus[n].index = n;
    opened++;
    return OK;
}
EXPORT int nvmlShutdown(void) { if (!opened) return UNINITIALIZED; opened--; return OK; }
EXPORT const char *nvmlErrorString(int code) { return code == LOST ? "GPU is lost" : "an error of the fake NVML"; }

EXPORT int nvmlSystemGetDriverVersion(char *out, unsigned size) { ENTER(NULL); return give_text(NULL, "driver_version", out, size); }
EXPORT int nvmlSystemGetNVMLVersion(char *out, unsigned size) { ENTER(NULL); return give_text(NULL, "nvml_version", out, size); }
EXPORT int nvmlSystemGetCudaDriverVersion(int *out) { ENTER(NULL); return unsigned_of(NULL, "cuda_version", (unsigned *)out); }
EXPORT int nvmlDeviceGetCount_v2(unsigned *out) {
    ENTER(NULL);
    return unsigned_of(NULL, "counted", out) ? unsigned_of(NULL, "gpus", out) : OK;
}
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, Gpu **out) {
    unsigned all = 0;
    Long code;
    ENTER(NULL);
    unsigned_of(NULL, "gpus", &all);
    if (index >= all || index >= MOST) return INVALID;
    if (!number_of(&gpus[index], "handle_error", &code) && code) return (int)code;
    *out = &gpus[index];
    return OK;
}

TEXT(nvmlDeviceGetName, "name")
TEXT(nvmlDeviceGetUUID, "uuid")
TEXT(nvmlDeviceGetSerial, "serial")
TEXT(nvmlDeviceGetVbiosVersion, "vbios")
TEXT(nvmlDeviceGetBoardPartNumber, "part_number")
TEXT(nvmlDeviceGetInforomImageVersion, "inforom")
UNSIGNED(nvmlDeviceGetMinorNumber, "minor")
UNSIGNED(nvmlDeviceGetArchitecture, "architecture")
UNSIGNED(nvmlDeviceGetBrand, "brand")
UNSIGNED(nvmlDeviceGetPersistenceMode, "persistence")
UNSIGNED(nvmlDeviceGetComputeMode, "compute_mode")
UNSIGNED(nvmlDeviceGetDisplayActive, "display_active")
UNSIGNED(nvmlDeviceGetDisplayMode, "display_mode")
UNSIGNED(nvmlDeviceGetPerformanceState, "performance_state")
UNSIGNED(nvmlDeviceGetFanSpeed, "fan.0")
UNSIGNED(nvmlDeviceGetNumFans, "fans")
UNSIGNED(nvmlDeviceGetPowerUsage, "power_mw")
UNSIGNED(nvmlDeviceGetEnforcedPowerLimit, "power_limit_mw")
UNSIGNED(nvmlDeviceGetPowerManagementLimit, "power_limit_set_mw")
UNSIGNED(nvmlDeviceGetPowerManagementDefaultLimit, "power_limit_default_mw")
UNSIGNED(nvmlDeviceGetCurrPcieLinkWidth, "pcie.width")
UNSIGNED(nvmlDeviceGetMaxPcieLinkGeneration, "pcie.generation_max")
UNSIGNED(nvmlDeviceGetMaxPcieLinkWidth, "pcie.width_max")
UNSIGNED(nvmlDeviceGetPcieReplayCounter, "pcie.replays")
UNSIGNED(nvmlDeviceGetMaxMigDeviceCount, "mig.most")
UNSIGNED(nvmlDeviceGetRetiredPagesPendingStatus, "retired.pending")
UNSIGNED(nvmlDeviceGetMemoryBusWidth, "memory_bus_width")
UNSIGNED(nvmlDeviceGetNumGpuCores, "cores")
LONG(nvmlDeviceGetTotalEnergyConsumption, "energy_mj")
#ifndef OLD
UNSIGNED(nvmlDeviceGetGpuMaxPcieLinkGeneration, "pcie.generation_gpu")
UNSIGNED(nvmlDeviceGetPowerSource, "power_source")
UNSIGNED(nvmlDeviceGetNumaNodeId, "numa_node")
LONG(nvmlDeviceGetCurrentClocksEventReasons, "throttle")
EXPORT int nvmlDeviceGetGspFirmwareVersion(Gpu *g, char *out) { ENTER(g); return give_text(g, "gsp_firmware", out, 64); }
typedef struct { unsigned version; int celsius; } Margin;
EXPORT int nvmlDeviceGetMarginTemperature(Gpu *g, Margin *out) {
    ENTER(g);
    return unsigned_of(g, "margin", (unsigned *)&out->celsius);
}
typedef struct { unsigned version; int sensor, celsius; } Temperature;
EXPORT int nvmlDeviceGetTemperatureV(Gpu *g, Temperature *out) {
    char key[64];
    // what ails the older function ails this one: both ask the same sensor
    int code = enter("nvmlDeviceGetTemperature", g);
    if (code) return code;
    ENTER(g);
    snprintf(key, sizeof key, "temperature.%d", out->sensor);
    return unsigned_of(g, key, (unsigned *)&out->celsius);
}
typedef struct { unsigned version; Long counters[11]; unsigned exceeded; } Sram;
EXPORT int nvmlDeviceGetSramEccErrorStatus(Gpu *g, Sram *out) {
    ENTER(g);
    memset(out->counters, 0, sizeof out->counters);
    return unsigned_of(g, "sram.exceeded", &out->exceeded);
}
UNSIGNED(nvmlDeviceGetGpcClkVfOffset, "clock_offset.graphics")
UNSIGNED(nvmlDeviceGetMemClkVfOffset, "clock_offset.memory")
#endif
INDEXED(nvmlDeviceGetTemperatureThreshold, "threshold.%u")
INDEXED(nvmlDeviceGetClockInfo, "clock.%u")
INDEXED(nvmlDeviceGetMaxClockInfo, "clock_max.%u")
#ifdef NEW
#define REMOVED(function) EXPORT int function(Gpu *g) { ENTER(g); return DEPRECATED; }
REMOVED(nvmlDeviceGetTemperature)
REMOVED(nvmlDeviceGetApplicationsClock)
REMOVED(nvmlDeviceGetDefaultApplicationsClock)
REMOVED(nvmlDeviceGetViolationStatus)
REMOVED(nvmlDeviceGetCurrentClocksThrottleReasons)
#else
LONG(nvmlDeviceGetCurrentClocksThrottleReasons, "throttle")
INDEXED(nvmlDeviceGetTemperature, "temperature.%u")
INDEXED(nvmlDeviceGetApplicationsClock, "clock_chosen.%u")
INDEXED(nvmlDeviceGetDefaultApplicationsClock, "clock_default.%u")
#endif
INDEXED(nvmlDeviceGetFanSpeed_v2, "fan.%u")
INDEXED(nvmlDeviceGetPcieThroughput, "pcie.throughput.%u")
INDEXED(nvmlDeviceGetNvLinkState, "nvlink.%u.state")
INDEXED(nvmlDeviceGetNvLinkVersion, "nvlink.%u.version")
INDEXED(nvmlDeviceGetNvLinkRemoteDeviceType, "nvlink.%u.remote_type")
PAIR(nvmlDeviceGetCudaComputeCapability, "compute.major", "compute.minor")
PAIR(nvmlDeviceGetEccMode, "ecc.mode", "ecc.pending")
UNSIGNED(nvmlDeviceGetDefaultEccMode, "ecc.default")
EXPORT int nvmlDeviceValidateInforom(Gpu *g) {
    Long corrupted;
    ENTER(g);
    if (!text_of(g, "inforom")) return NOT_SUPPORTED;
    return !number_of(g, "inforom_corrupted", &corrupted) && corrupted ? CORRUPTED : OK;
}
PAIR(nvmlDeviceGetMigMode, "mig.mode", "mig.pending")
PAIR(nvmlDeviceGetPowerManagementLimitConstraints, "power_limit_min_mw", "power_limit_max_mw")
PAIR(nvmlDeviceGetEncoderUtilization, "utilisation.encoder", "utilisation.period")
PAIR(nvmlDeviceGetDecoderUtilization, "utilisation.decoder", "utilisation.period")

// a link that sleeps wakes up while the fake CUDA touches $FAKE_NVML.busy.INDEX
EXPORT int nvmlDeviceGetCurrPcieLinkGeneration(Gpu *g, unsigned *out) {
    char path[1024];
    struct stat busy;
    ENTER(g);
    snprintf(path, sizeof path, "%s.busy.%d", getenv("FAKE_NVML"), g->index);
    int awake = !stat(path, &busy) && time(NULL) - busy.st_mtime < 2;
    return awake && !unsigned_of(g, "pcie.generation_busy", out) ? OK : unsigned_of(g, "pcie.generation", out);
}
EXPORT int nvmlDeviceGetNvLinkErrorCounter(Gpu *g, unsigned link, unsigned counter, Long *out) {
    char key[64];
    ENTER(g);
    snprintf(key, sizeof key, "nvlink.%u.errors.%u", link, counter);
    return number_of(g, key, out);
}
typedef struct { Long total, free, used; } Memory;
typedef struct { unsigned gpu, memory; } Rates;
#ifndef NEW
typedef struct { Long reference_us, violation_ns; } Violation;
#endif
EXPORT int nvmlDeviceGetMemoryInfo(Gpu *g, Memory *out) {
    ENTER(g);
    int code = number_of(g, "memory.total", &out->total);
    if (code) return code;
    Long reserved = 0;
    number_of(g, "memory.reserved", &reserved);
    if (number_of(g, "memory.used", &out->used)) out->used = 0;
    out->used += reserved;
    out->free = out->total - out->used;
    return OK;
}
#ifndef OLD
typedef struct { unsigned version; Long total, reserved, free, used; } Memory2;
EXPORT int nvmlDeviceGetMemoryInfo_v2(Gpu *g, Memory2 *out) {
    ENTER(g);
    int code = number_of(g, "memory.total", &out->total);
    if (code) return code;
    if (number_of(g, "memory.used", &out->used)) out->used = 0;
    if (number_of(g, "memory.reserved", &out->reserved)) out->reserved = 0;
    out->free = out->total - out->used - out->reserved;
    return OK;
}
#endif
EXPORT int nvmlDeviceGetBAR1MemoryInfo(Gpu *g, Memory *out) {
    ENTER(g);
    int code = number_of(g, "bar1.total", &out->total);
    if (code) return code;
    if (number_of(g, "bar1.used", &out->used)) out->used = 0;
    out->free = out->total - out->used;
    return OK;
}
EXPORT int nvmlDeviceGetUtilizationRates(Gpu *g, Rates *out) {
    ENTER(g);
    int code = unsigned_of(g, "utilisation.gpu", &out->gpu);
    return code ? code : unsigned_of(g, "utilisation.memory", &out->memory);
}
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
EXPORT int nvmlDeviceGetPciInfo_v3(Gpu *g, Pci *out) {
    ENTER(g);
    memset(out, 0, sizeof *out);
    int code = give_text(g, "bus_id", out->bus_id, sizeof out->bus_id);
    if (code) return code;
    sscanf(out->bus_id, "%x:%x:%x", &out->domain, &out->bus, &out->device);
    snprintf(out->legacy, sizeof out->legacy, "%04x:%02x:%02x.0", out->domain & 0xffff, out->bus & 0xff, out->device & 0xff);
    unsigned_of(g, "pci.id", &out->id);
    unsigned_of(g, "pci.subsystem", &out->subsystem);
    return OK;
}
EXPORT int nvmlDeviceGetNvLinkRemotePciInfo_v2(Gpu *g, unsigned link, Pci *out) {
    char key[64];
    ENTER(g);
    memset(out, 0, sizeof *out);
    snprintf(key, sizeof key, "nvlink.%u.remote", link);
    int code = give_text(g, key, out->bus_id, sizeof out->bus_id);
    if (!code) sscanf(out->bus_id, "%x:%x:%x", &out->domain, &out->bus, &out->device);
    return code;
}
EXPORT int nvmlDeviceGetTotalEccErrors(Gpu *g, unsigned kind, unsigned counter, Long *out) {
    char key[64];
    ENTER(g);
    snprintf(key, sizeof key, "ecc.%s.%s", counter ? "aggregate" : "volatile", kind ? "uncorrected" : "corrected");
    return number_of(g, key, out);
}
EXPORT int nvmlDeviceGetRemappedRows(Gpu *g, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
    ENTER(g);
    int code = unsigned_of(g, "remapped.corrected", corrected);
    if (!code) code = unsigned_of(g, "remapped.uncorrected", uncorrected);
    if (!code) code = unsigned_of(g, "remapped.pending", pending);
    return code ? code : unsigned_of(g, "remapped.failed", failed);
}
EXPORT int nvmlDeviceGetRowRemapperHistogram(Gpu *g, unsigned *out) {
    static const char *keys[] = {"max", "high", "partial", "low", "none"};
    ENTER(g);
    for (unsigned n = 0; n < 5; n++) {
        char key[64];
        snprintf(key, sizeof key, "histogram.%s", keys[n]);
        int code = unsigned_of(g, key, &out[n]);
        if (code) return code;
    }
    return OK;
}
EXPORT int nvmlDeviceGetRetiredPages_v2(Gpu *g, unsigned cause, unsigned *size, Long *addresses, Long *times) {
    char key[32];
    unsigned have;
    ENTER(g);
    snprintf(key, sizeof key, "retired.%u", cause);
    int code = unsigned_of(g, key, &have);
    if (code) return code;
    if (have > *size) { *size = have; return TOO_SMALL; }
    for (unsigned n = 0; n < have; n++) { addresses[n] = 0x1000 * (n + 1); times[n] = 0; }
    *size = have;
    return OK;
}
#ifndef NEW
EXPORT int nvmlDeviceGetViolationStatus(Gpu *g, unsigned policy, Violation *out) {
    char key[32];
    ENTER(g);
    out->reference_us = 0;
    number_of(g, "uptime_us", &out->reference_us);
    snprintf(key, sizeof key, "violation.%u", policy);
    return number_of(g, key, &out->violation_ns);
}
#endif

static int between(const char *function, Gpu *a, Gpu *b, const char *form, unsigned caps, unsigned *out) {
    char key[64];
    int code = enter(function, a);
    if (code) return code;
    snprintf(key, sizeof key, form, b->index, caps);
    return unsigned_of(a, key, out);
}
EXPORT int nvmlDeviceGetTopologyCommonAncestor(Gpu *a, Gpu *b, unsigned *out) { return between(__func__, a, b, "ancestor.%d", 0, out); }
EXPORT int nvmlDeviceGetP2PStatus(Gpu *a, Gpu *b, unsigned caps, unsigned *out) { return between(__func__, a, b, "p2p.%d.%u", caps, out); }
EXPORT int nvmlDeviceGetCpuAffinity(Gpu *g, unsigned size, unsigned long *out) {
    ENTER(g);
    memset(out, 0, size * sizeof *out);
    Long mask;
    int code = number_of(g, "cpus", &mask);
    if (!code && size) out[0] = (unsigned long)mask;
    return code;
}

typedef struct { unsigned pid; Long memory; unsigned gpu_instance, compute_instance; } Process;
static int give_processes(Gpu *g, const char *kind, unsigned *size, Process *out) {
    char key[64];
    unsigned have = 0;
    for (const char *one;; have++) {
        snprintf(key, sizeof key, "%s.%u", kind, have);
        if (!(one = text_of(g, key))) break;
        if (out && have < *size) {
            out[have] = (Process){0, ~0ULL, ~0u, ~0u};
            sscanf(one, "%u %llu", &out[have].pid, &out[have].memory);
        }
    }
    int fits = have <= *size && (out || !have);
    *size = have;
    return fits ? OK : TOO_SMALL;
}
EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(Gpu *g, unsigned *size, Process *out) { ENTER(g); return give_processes(g, "compute_process", size, out); }
EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v3(Gpu *g, unsigned *size, Process *out) { ENTER(g); return give_processes(g, "graphics_process", size, out); }

typedef struct { unsigned id, scope; long long when, took; unsigned type; int code; Long value; } Field;
EXPORT int nvmlDeviceGetFieldValues(Gpu *g, int size, Field *fields) {
    ENTER(g);
    for (int n = 0; n < size; n++) {
        char key[64];
        snprintf(key, sizeof key, fields[n].scope ? "field.%u.%u" : "field.%u", fields[n].id, fields[n].scope);
        fields[n].code = number_of(g, key, &fields[n].value);
        const char *value = text_of(g, key);
        fields[n].type = value && *value == '-' ? 4 : 3;
    }
    return OK;
}

typedef struct { Gpu *gpu; Long type, data; unsigned gpu_instance, compute_instance; } Event;
typedef struct { int next; Long masks[MOST]; } Events;
static int events(void) {
    char key[32];
    int n = 0;
    for (;; n++) {
        snprintf(key, sizeof key, "event.%d", n);
        if (!system_text(key)) return n;
    }
}
EXPORT int nvmlEventSetCreate(Events **out) { ENTER(NULL); *out = calloc(1, sizeof **out); (*out)->next = events(); return OK; }
EXPORT int nvmlDeviceGetSupportedEventTypes(Gpu *g, Long *out) { ENTER(g); if (number_of(g, "event_types", out)) *out = 0xf; return OK; }
EXPORT int nvmlDeviceRegisterEvents(Gpu *g, Long mask, Events *set) { ENTER(g); set->masks[g->index] |= mask; return OK; }
EXPORT int nvmlEventSetFree(Events *set) { free(set); return OK; }
EXPORT int nvmlEventSetWait_v2(Events *set, Event *out, unsigned milliseconds) {
    for (unsigned waited = 0;; waited += 10) {
        ENTER(NULL);
        while (set->next < events()) {
            char key[32];
            int index = 0;
            Long type = 0, data = 0;
            snprintf(key, sizeof key, "event.%d", set->next++);
            sscanf(system_text(key), "%d %llu %llu", &index, &type, &data);
            if (index < 0 || index >= MOST || !(set->masks[index] & type)) continue;
            *out = (Event){&gpus[index], type, data, ~0u, ~0u};
            return OK;
        }
        if (waited >= milliseconds) return TIMEOUT;
        usleep(10000);
    }
}
