#define UNKNOWN "unknown"
