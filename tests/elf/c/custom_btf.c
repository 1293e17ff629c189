/* A program of the host: libbpf opens and loads an object against a BTF file of ours, and tells what it patches. */
#include <bpf/libbpf.h>
#include <stdio.h>

static int print(enum libbpf_print_level level, const char *format, va_list args)
{
    return vfprintf(stdout, format, args);
}

int main(int argc, char **argv)
{
    LIBBPF_OPTS(bpf_object_open_opts, opts, .btf_custom_path = argv[2]);
    struct bpf_object *object;

    libbpf_set_print(print);
    object = bpf_object__open_file(argv[1], &opts);
    return object && bpf_object__load(object) ? 1 : 0;
}
