/* 2-D vectors. */
struct vec { double x, y; };
double vec_length(struct vec a, struct vec b);
