#include "lookup.h"
#include "codes_table.h"

const char *code_text(int number) {
    for (unsigned i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (codes[i].number == number)
            return codes[i].text;
    return UNKNOWN;
}
