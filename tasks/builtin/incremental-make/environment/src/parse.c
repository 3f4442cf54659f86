#include "parse.h"

int parse_number(const char *text) {
    int number = 0;
    if (*text == '\0')
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || number > MAX_NUMBER)
            return -1;
        number = number * 10 + (*text - '0');
    }
    return number;
}
