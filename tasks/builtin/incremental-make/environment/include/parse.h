#ifndef PARSE_H
#define PARSE_H
#include "limits.inc.h"
int parse_number(const char *text);
#endif
