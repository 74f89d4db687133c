/* A stand-in for libnvidia-ml.so.1, with faults on demand. Layouts and numbers: nvml.h.
 *
 * The file that NVML_DOUBLE names is read at every call:
 *   cards N                  how many cards there are
 *   driver CODE              every call but nvmlShutdown answers this error
 *   hang 1                   every call waits until this line is gone
 *   INDEX KEY VALUE          one card: model used_mb memory_mb util temp power_mw ecc remap_failed xid mig lost gone hang
 *   INDEX pid PID MIB        a process on the card, or on its first part; may stand several times
 * A card that is gone is not listed, those after it move up. `mig` is the number of its parts.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned U;
typedef unsigned long long ULL;
typedef void *Handle;
enum { OK, UNINITIALIZED, INVALID, UNSUPPORTED, NOT_FOUND = 6, SMALL = 7, TIMEOUT = 10, LOST = 15 };
enum { CARDS = 64, PARTS = 8, MIB = 20 };

static int users;
static long told[CARDS]; /* the XID that was delivered last */

static FILE *state(void) {
  const char *path = getenv("NVML_DOUBLE");
  return path ? fopen(path, "r") : NULL;
}

/* The text behind `key` of the card, or behind `key` alone when card is -1. */
static int text(int card, const char *key, char *out, size_t most) {
  FILE *file = state();
  char line[256], word[64];
  int at, used, found = 0;
  if (!file) return 0;
  while (fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = 0;
    if (card < 0) {
      if (sscanf(line, "%63s %n", word, &used) != 1) continue;
    } else if (sscanf(line, "%d %63s %n", &at, word, &used) != 2 || at != card) {
      continue;
    }
    if (strcmp(word, key) == 0) {
      snprintf(out, most, "%s", line + used);
      found = 1;
    }
  }
  fclose(file);
  return found;
}

static long number(int card, const char *key, long otherwise) {
  char out[256];
  return text(card, key, out, sizeof out) ? atol(out) : otherwise;
}

static int enter(void) {
  while (number(-1, "hang", 0)) usleep(5000);
  return (int)number(-1, "driver", users ? OK : UNINITIALIZED);
}

/* The card at that place of the list, -1 when there is none. */
static int listed(U place) {
  long all = number(-1, "cards", 0);
  for (int card = 0; card < all && card < CARDS; card++)
    if (!number(card, "gone", 0) && place-- == 0) return card;
  return -1;
}

static Handle handle(int card, int part) { return (Handle)(uintptr_t)(card * PARTS + part + 1); }

static int look(Handle device, int *card, int *part) {
  int code = enter();
  if (code) return code;
  uintptr_t at = (uintptr_t)device - 1;
  if (at >= CARDS * PARTS) return INVALID;
  *card = (int)(at / PARTS);
  *part = (int)(at % PARTS);
  while (number(*card, "hang", 0)) usleep(5000);
  return number(*card, "lost", 0) ? LOST : number(*card, "gone", 0) ? NOT_FOUND : OK;
}

#define CARD                           \
  int card, part;                      \
  int code = look(device, &card, &part); \
  if (code) return code;               \
  (void)part

static int put(char *out, U most, const char *value) {
  if (strlen(value) >= most) return SMALL;
  strcpy(out, value);
  return OK;
}

int nvmlInitWithFlags(U flags) {
  (void)flags;
  if (!users++) memset(told, 0, sizeof told);
  int code = enter();
  if (code) users--;
  return code;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) {
  if (!users) return UNINITIALIZED;
  users--;
  return OK;
}
const char *nvmlErrorString(int code) { return code == LOST ? "GPU is lost" : code == 9 ? "Driver Not Loaded" : "Unknown Error"; }
int nvmlSystemGetDriverVersion(char *out, U most) {
  int code = enter();
  return code ? code : put(out, most, "550.54.15");
}
int nvmlDeviceGetCount_v2(U *count) {
  int code = enter();
  for (*count = 0; !code && listed(*count) >= 0;) ++*count;
  return code;
}
int nvmlDeviceGetHandleByIndex_v2(U place, Handle *device) {
  int code = enter(), card = listed(place);
  if (code) return code;
  if (card < 0) return INVALID;
  *device = handle(card, 0);
  return number(card, "lost", 0) == 2 ? LOST : OK; /* 2: not even its handle can be had */
}
int nvmlDeviceGetName(Handle device, char *out, U most) {
  CARD;
  char name[200] = "NVIDIA Double 80GB";
  text(card, "model", name, sizeof name - 20);
  if (part) strcat(name, " MIG 1g.10gb");
  return put(out, most, name);
}
int nvmlDeviceGetUUID(Handle device, char *out, U most) {
  CARD;
  char uuid[64];
  if (part) snprintf(uuid, sizeof uuid, "MIG-d0b1e000-0000-4000-8000-%06x%06x", card, part);
  else snprintf(uuid, sizeof uuid, "GPU-d0b1e000-0000-4000-8000-%012x", card);
  return put(out, most, uuid);
}
typedef struct { char legacy[16]; U domain, bus, device, id, subsystem; char address[32]; } Pci;
int nvmlDeviceGetPciInfo_v3(Handle device, Pci *out) {
  CARD;
  memset(out, 0, sizeof *out);
  out->bus = 0x1A + card;
  snprintf(out->legacy, sizeof out->legacy, "0000:%02X:00.0", out->bus);
  snprintf(out->address, sizeof out->address, "00000000:%02X:00.0", out->bus);
  return OK;
}
typedef struct { ULL total, free, used; } Memory;
int nvmlDeviceGetMemoryInfo(Handle device, Memory *out) {
  CARD;
  out->total = (ULL)(part ? 10240 : number(card, "memory_mb", 81920)) << MIB;
  out->used = (ULL)number(card, "used_mb", 0) << MIB;
  out->free = out->total - out->used;
  return OK;
}
int nvmlDeviceGetUtilizationRates(Handle device, U *out) {
  CARD;
  out[0] = (U)number(card, "util", 0);
  out[1] = 0;
  return part || number(card, "mig", 0) ? UNSUPPORTED : OK;
}
int nvmlDeviceGetTemperature(Handle device, int sensor, U *out) {
  CARD;
  (void)sensor;
  *out = (U)number(card, "temp", 35);
  return OK;
}
int nvmlDeviceGetPowerUsage(Handle device, U *out) {
  CARD;
  *out = (U)number(card, "power_mw", 60000);
  return OK;
}
int nvmlDeviceGetEnforcedPowerLimit(Handle device, U *out) {
  CARD;
  *out = 400000;
  return OK;
}
int nvmlDeviceGetTotalEccErrors(Handle device, int kind, int counter, ULL *out) {
  CARD;
  (void)counter;
  *out = kind == 1 ? (ULL)number(card, "ecc", 0) : 0;
  return number(card, "ecc", 0) < 0 ? UNSUPPORTED : OK;
}
int nvmlDeviceGetRemappedRows(Handle device, U *correctable, U *uncorrectable, U *pending, U *failed) {
  CARD;
  *correctable = *uncorrectable = *pending = 0;
  *failed = (U)number(card, "remap_failed", 0);
  return OK;
}
int nvmlDeviceGetMigMode(Handle device, U *now, U *pending) {
  CARD;
  *now = *pending = number(card, "mig", -1) >= 0;
  return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(Handle device, U *out) {
  CARD;
  *out = PARTS - 1;
  return OK;
}
int nvmlDeviceGetMigDeviceHandleByIndex(Handle device, U at, Handle *out) {
  CARD;
  if ((long)at >= number(card, "mig", 0)) return NOT_FOUND;
  *out = handle(card, (int)at + 1);
  return OK;
}

typedef struct { U pid; ULL memory; U instance, compute; } Process;
int nvmlDeviceGetComputeRunningProcesses_v3(Handle device, U *count, Process *out) {
  CARD;
  U most = *count, found = 0;
  char line[256];
  FILE *file = part > 1 ? NULL : state();
  while (file && fgets(line, sizeof line, file)) {
    U at, pid;
    ULL memory;
    if (sscanf(line, "%u pid %u %llu", &at, &pid, &memory) != 3 || (int)at != card) continue;
    if (found < most && out) out[found] = (Process){pid, memory << MIB, ~0u, ~0u};
    found++;
  }
  if (file) fclose(file);
  *count = found;
  return found > most ? SMALL : OK;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(Handle device, U *count, Process *out) {
  CARD;
  (void)out;
  *count = 0;
  return OK;
}

typedef struct { Handle device; ULL type, data; U instance, compute; } Event;
int nvmlEventSetCreate(Handle *set) {
  int code = enter();
  *set = &users;
  return code;
}
int nvmlEventSetFree(Handle set) {
  (void)set;
  return OK;
}
int nvmlDeviceRegisterEvents(Handle device, ULL types, Handle set) {
  CARD;
  (void)types;
  (void)set;
  return OK;
}
int nvmlEventSetWait_v2(Handle set, Event *out, U milliseconds) {
  int code = enter();
  (void)set;
  (void)milliseconds;
  if (code) return code;
  for (int card = 0; card < CARDS && card < number(-1, "cards", 0); card++) {
    long xid = number(card, "xid", 0);
    if (!xid || xid == told[card]) continue;
    told[card] = xid;
    *out = (Event){handle(card, 0), 8, (ULL)xid, ~0u, ~0u};
    return OK;
  }
  return TIMEOUT;
}
