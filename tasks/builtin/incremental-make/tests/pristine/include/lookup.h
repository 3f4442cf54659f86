#ifndef LOOKUP_H
#define LOOKUP_H
#include "strings.inc.h"
const char *code_text(int number);
#endif
