/*
 * The steps of the tour on a tiny model, over and over: many_traces MODEL TRACES. Says how much memory was held after a
 * fifth of the traces and after all of them, and how many handles are left.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mlxterp.h"

static void check(mlxterp_status status) {
    if (status != MLXTERP_STATUS_OK) {
        fprintf(stderr, "error %d: %s\n", (int)status, mlxterp_last_error_message());
        exit(1);
    }
}

static void fails(mlxterp_status status, mlxterp_status expected) {
    if (status != expected) {
        fprintf(stderr, "status %d where %d was expected\n", (int)status, (int)expected);
        exit(1);
    }
}

static void compute(const mlxterp_trace *trace) {
    mlxterp_array *output;
    check(mlxterp_trace_read(trace, "output", &output));
    check(mlxterp_array_eval(output));
    mlxterp_array_free(output);
}

/* Halves the value, or fails where `user` says so. */
static int32_t hook(void *user, const mlxterp_event *event, mlxterp_array **out_value) {
    mlxterp_array *half;
    if (strcmp(user, "fail") == 0) {
        return 1;
    }
    if (mlxterp_array_scalar_like(0.5, event->value, &half) != MLXTERP_STATUS_OK) {
        return 1;
    }
    int32_t status = (int32_t)mlxterp_array_binary(MLXTERP_BINARY_MULTIPLY, event->value, half, out_value);
    mlxterp_array_free(half);
    return status;
}

static void forget(void *user) {
    free(user);
}

static mlxterp_intervention *custom(const char *text) {
    mlxterp_intervention *made;
    char *user = malloc(strlen(text) + 1);
    if (user == NULL) {
        exit(1);
    }
    strcpy(user, text);
    check(mlxterp_intervention_custom(text, hook, user, forget, &made));
    return made;
}

/* Two traces: one, and its fork. */
static void tour(const mlxterp_model *model, const mlxterp_batch *batch, int turn) {
    mlxterp_trace *trace, *fork;
    check(mlxterp_trace_start(model, batch, NULL, &trace));

    /* Read, and write what was read, changed, at one position. */
    const mlxterp_index at[2] = {{MLXTERP_INDEX_SLICE, 0, MLXTERP_INDEX_NONE, MLXTERP_INDEX_NONE, 1},
                                 {MLXTERP_INDEX_AT, 0, -1, 0, 1}};
    mlxterp_array *value, *part, *doubled, *nothing;
    check(mlxterp_trace_read(trace, "layers.0.attn.output", &value));
    check(mlxterp_array_index(value, at, 2, &part));
    check(mlxterp_array_binary(MLXTERP_BINARY_ADD, part, part, &doubled));
    check(mlxterp_trace_write_at(trace, "layers.0.attn.output", at, 2, doubled));
    compute(trace);

    /* Another continuation, with an intervention or a hook; every other hook fails. */
    mlxterp_intervention *zero, *everywhere;
    const int64_t last = -1;
    check(mlxterp_trace_fork(trace, &fork));
    check(mlxterp_intervention_zero_out(&everywhere));
    check(mlxterp_intervention_select(everywhere, "positions", &last, 1, &zero));
    check(mlxterp_trace_intervene(fork, "layers.1.mlp", zero));
    mlxterp_intervention *hooked = custom(turn % 2 == 0 ? "fail" : "halve");
    mlxterp_status status = mlxterp_trace_intervene(fork, "layers.1.attn.pattern", hooked);
    if (turn % 2 == 0) {
        if (status == MLXTERP_STATUS_OK) {
            status = mlxterp_trace_read(fork, "output", &nothing);
        }
        fails(status, MLXTERP_STATUS_CALLBACK);
    } else {
        check(status);
        compute(fork);
    }

    /* Mistakes. */
    fails(mlxterp_trace_read(trace, "layers.99.mlp", &nothing), MLXTERP_STATUS_UNKNOWN_SITE);
    fails(mlxterp_trace_write(trace, "layers.0.mlp.output", part), MLXTERP_STATUS_STALE_WRITE);

    mlxterp_intervention_free(hooked);
    mlxterp_intervention_free(zero);
    mlxterp_intervention_free(everywhere);
    mlxterp_array_free(value);
    mlxterp_array_free(part);
    mlxterp_array_free(doubled);
    mlxterp_trace_free(fork);
    mlxterp_trace_free(trace);
}

/* In kilobytes; 0 where there is no /proc. */
static long resident(void) {
    long kilobytes = 0;
    char line[200];
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL) {
        sscanf(line, "VmRSS: %ld", &kilobytes);
    }
    if (status != NULL) {
        fclose(status);
    }
    return kilobytes;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        return 2;
    }
    const int traces = atoi(argv[2]);
    const uint32_t ids[] = {3, 7, 11, 20};
    const size_t length = 4;
    mlxterp_model *model;
    mlxterp_batch *batch;
    check(mlxterp_model_load(argv[1], NULL, &model));
    check(mlxterp_batch_from_tokens(model, ids, &length, 1, &batch));
    for (int i = 2; i <= traces; i += 2) {
        tour(model, batch, i / 2);
        if (i == traces / 5 || i == traces) {
            printf("after %d traces: %zu bytes held, %ld kB resident\n", i, mlxterp_memory_used(), resident());
        }
    }
    mlxterp_batch_free(batch);
    mlxterp_model_free(model);
    printf("handles left: %zu\n", mlxterp_live_handles());
    return 0;
}
