/*
 * Stands in for libFuzzer: hands each file named to the fuzz target, once. So what fuzzing has
 * found, and the seeds, are tested wherever the unit tests are.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A block of just that size, so that a sanitizer sees a read beyond it. NULL with errno set. */
static uint8_t *read_file(const char *path, size_t *size)
{
	FILE *f = fopen(path, "r");
	uint8_t *data = NULL;
	struct stat st;

	if (!f)
		return NULL;
	if (fstat(fileno(f), &st) == 0 && S_ISREG(st.st_mode)) {
		*size = (size_t)st.st_size;
		data = malloc(*size ? *size : 1);
	} else {
		errno = EINVAL;
	}
	if (data && fread(data, 1, *size, f) != *size) {
		free(data);
		data = NULL;
		errno = EIO;
	}
	fclose(f);
	return data;
}

int main(int argc, char **argv)
{
	size_t size = 0;
	uint8_t *data;
	int i;

	for (i = 1; i < argc; i++) {
		data = read_file(argv[i], &size);
		if (!data) {
			fprintf(stderr, "%s: %s: %s\n", argv[0], argv[i],
				strerror(errno));
			return EXIT_FAILURE;
		}
		LLVMFuzzerTestOneInput(data, size);
		free(data);
	}
	printf("%s: %d inputs replayed\n", argv[0], argc - 1);
	return argc > 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}
