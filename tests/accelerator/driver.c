/* A libcuda that answers only what is asked of it first: INIT is what starting it returns, VERSION
   which driver it is. */
#include <string.h>

int cuInit(unsigned flags) { return INIT; }
int cuDriverGetVersion(int *version) { *version = VERSION; return 0; }

int cuGetProcAddress_v2(const char *name, void **found, int version, unsigned long long flags,
                        void *status) {
    *found = 0;
    if (!strcmp(name, "cuInit")) *found = cuInit;
    else if (!strcmp(name, "cuDriverGetVersion")) *found = cuDriverGetVersion;
    else if (!strcmp(name, "cuGetProcAddress")) *found = cuGetProcAddress_v2;
    if (status) *(int *)status = *found ? 0 : 1;
    return *found ? 0 : 500;
}

int cuGetProcAddress(const char *name, void **found, int version, unsigned long long flags) {
    return cuGetProcAddress_v2(name, found, version, flags, 0);
}

int cuGetExportTable(const void **table, const void *id) { *table = 0; return 500; }
