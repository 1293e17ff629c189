/* Prints the kernel's own table of verifier tests as JSON lines: included into, and compiled with, the kernel's
 * test_verifier.c by tools/verifier_exam.py, so that initialisers and fill helpers mean exactly what they mean there. */
#define main unused_main
#include "test_verifier.c"
#undef main

static void hex(const char *name, const void *data, size_t size) {
    printf(", \"%s\": \"", name);
    for (size_t at = 0; at < size; at++) printf("%02x", ((const unsigned char *)data)[at]);
    printf("\"");
}

static void places(const char *name, const int *at, int *first) {
    if (!*at) return;
    printf("%s\"%s\": [", *first ? "" : ", ", name);
    *first = 0;
    for (int number = 0; number < MAX_FIXUPS && at[number]; number++) printf("%s%d", number ? ", " : "", at[number]);
    printf("]");
}

#define PLACES(name) places(#name, test->fixup_##name, &first)

int main(void) {
    for (size_t number = 0; number < ARRAY_SIZE(tests); number++) {
        struct bpf_test *test = &tests[number];
        const struct bpf_insn *insns = test->insns;
        int first = 1, length, types = 0;
        if (test->fill_helper) {
            test->fill_insns = calloc(MAX_TEST_INSNS, sizeof(struct bpf_insn));
            test->fill_helper(test);
            insns = test->fill_insns;
            length = test->prog_len;
        } else {
            length = probe_filter_length(insns);
        }
        printf("{\"number\": %zu, \"type\": %d, \"attach\": %d, \"flags\": %u, \"result\": %d, \"unprivileged\": %d",
               number, test->prog_type ? test->prog_type : BPF_PROG_TYPE_SOCKET_FILTER, test->expected_attach_type,
               test->flags, test->result, test->result_unpriv);
        hex("name", test->descr, strlen(test->descr));
        hex("target", test->kfunc ? test->kfunc : "", test->kfunc ? strlen(test->kfunc) : 0);
        hex("insns", insns, length * sizeof *insns);
        hex("functions", test->func_info, test->func_info_cnt * sizeof *test->func_info);
        while (types < MAX_BTF_TYPES && test->btf_types[types] != BTF_END_RAW) types++;
        if (test->btf_types[0]) {
            hex("types", test->btf_types, types * 4);
            hex("strings", test->btf_strings, sizeof test->btf_strings);
        }
        printf(", \"maps\": {");
        PLACES(map_hash_8b);
        PLACES(map_hash_48b);
        PLACES(map_hash_16b);
        PLACES(map_array_48b);
        PLACES(map_sockmap);
        PLACES(map_sockhash);
        PLACES(map_xskmap);
        PLACES(map_stacktrace);
        PLACES(prog1);
        PLACES(prog2);
        PLACES(map_in_map);
        PLACES(cgroup_storage);
        PLACES(percpu_cgroup_storage);
        PLACES(map_spin_lock);
        PLACES(map_array_ro);
        PLACES(map_array_wo);
        PLACES(map_array_small);
        PLACES(sk_storage_map);
        PLACES(map_event_output);
        PLACES(map_reuseport_array);
        PLACES(map_ringbuf);
        PLACES(map_timer);
        PLACES(map_kptr);
        printf("}, \"kfuncs\": {");
        for (int at = 0; at < MAX_FIXUPS && test->fixup_kfunc_btf_id[at].kfunc; at++)
            printf("%s\"%d\": \"%s\"", at ? ", " : "", test->fixup_kfunc_btf_id[at].insn_idx,
                   test->fixup_kfunc_btf_id[at].kfunc);
        printf("}}\n");
        free(test->fill_insns);
    }
    /* The types of map values that the fix-ups name. */
    printf("{\"number\": -1");
    hex("types", btf_raw_types, sizeof btf_raw_types);
    hex("strings", btf_str_sec, sizeof btf_str_sec);
    printf("}\n");
    return 0;
}
