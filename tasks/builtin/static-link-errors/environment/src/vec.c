#include <math.h>
#include "vec.h"

double vec_length(struct vec a, struct vec b) {
    return hypot(b.x - a.x, b.y - a.y);
}
