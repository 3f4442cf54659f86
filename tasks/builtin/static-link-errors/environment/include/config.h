/* Settings that all parts of the program share; main() sets them from the command line. */
int verbose;
int digits;
