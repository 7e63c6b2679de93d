/*
 * The tour: load, list, read, steer, patch, fork, an error, a hook that fails. The same program in C++ (examples/cpp),
 * Swift (examples/swift) and Python (examples/python) prints the same lines.
 *
 *     tour MODEL
 */
#include <inttypes.h>
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

static mlxterp_trace *trace_text(const mlxterp_model *model, const char *text) {
    mlxterp_batch *batch;
    mlxterp_trace *trace;
    check(mlxterp_batch_from_texts(model, &text, 1, &batch));
    check(mlxterp_trace_start(model, batch, NULL, &trace));
    mlxterp_batch_free(batch);
    return trace;
}

/* The value of a site at one position of the only row. */
static mlxterp_array *read_at(const mlxterp_trace *trace, const char *site, int64_t position) {
    mlxterp_index at[2] = {{MLXTERP_INDEX_AT, 0, 0, 0, 1}, {MLXTERP_INDEX_AT, 0, position, 0, 1}};
    mlxterp_array *whole, *part;
    check(mlxterp_trace_read(trace, site, &whole));
    check(mlxterp_array_index(whole, at, 2, &part));
    mlxterp_array_free(whole);
    return part;
}

/* The elements of an array, computed and in row-major order; `*dense` is to be freed when they are no longer needed. */
static const void *elements(const mlxterp_array *array, mlxterp_array **dense) {
    const void *data;
    check(mlxterp_array_contiguous(array, dense));
    check(mlxterp_array_eval(*dense));
    check(mlxterp_array_data(*dense, &data));
    return data;
}

static void print_next(const char *what, const mlxterp_model *model, const mlxterp_trace *trace) {
    mlxterp_array *logits = read_at(trace, "output", -1), *all, *top, *chosen, *ids, *numbers;
    check(mlxterp_array_softmax(logits, -1, &all));
    check(mlxterp_array_topk(all, 2, &top));
    check(mlxterp_array_take(all, top, -1, &chosen));
    const uint32_t *id = elements(top, &ids);
    const float *probability = elements(chosen, &numbers);
    printf("%s:", what);
    for (int i = 0; i < 2; i++) {
        char *token;
        check(mlxterp_model_token_to_str(model, id[i], &token));
        printf(" '%s' %.0f%%", token, 100.0 * (double)probability[i]);
        mlxterp_string_free(token);
    }
    printf("\n");
    mlxterp_array *done[] = {logits, all, top, chosen, ids, numbers};
    for (size_t i = 0; i < sizeof done / sizeof *done; i++) {
        mlxterp_array_free(done[i]);
    }
}

static void print_shape(const char *site, const mlxterp_array *array) {
    const int64_t *shape = mlxterp_array_shape(array);
    printf("%s: [", site);
    for (size_t i = 0; i < mlxterp_array_ndim(array); i++) {
        printf("%s%" PRId64, i == 0 ? "" : ", ", shape[i]);
    }
    printf("], computed: %s\n", mlxterp_array_is_evaluated(array) ? "yes" : "no");
}

/* C has no exceptions: what went wrong waits where `user` points. */
static int32_t refuse(void *user, const mlxterp_event *event, mlxterp_array **out_value) {
    (void)out_value;
    snprintf(user, 100, "refused at %s", event->site);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 2 || mlxterp_abi_version() != MLXTERP_ABI_VERSION) {
        fprintf(stderr, "usage: %s MODEL\n", argv[0]);
        return 2;
    }
    size_t before = mlxterp_live_handles();

    /* Load. */
    mlxterp_model *model;
    check(mlxterp_model_load(argv[1], NULL, &model));
    printf("model: %zu layers of width %zu, %zu heads\n", mlxterp_model_num_layers(model),
           mlxterp_model_hidden_size(model), mlxterp_model_num_heads(model));

    /* List sites. The list is JSON; its objects are counted here. */
    char *sites;
    size_t count = 0;
    check(mlxterp_model_sites_json(model, "layers.*.mlp", &sites));
    for (const char *at = sites; (at = strstr(at, "\"name\"")) != NULL; at++) {
        count++;
    }
    printf("layers.*.mlp: %zu sites\n", count);
    mlxterp_string_free(sites);

    /* Read three. Nothing is computed yet. */
    const char *three[] = {"layers.3.attn.output", "layers.3.attn.pattern", "output"};
    mlxterp_trace *france = trace_text(model, "The capital of France is");
    for (int i = 0; i < 3; i++) {
        mlxterp_array *value;
        check(mlxterp_trace_read(france, three[i], &value));
        print_shape(three[i], value);
        mlxterp_array_free(value);
    }
    mlxterp_array *there = read_at(france, "layers.15.output", -2), *dense;
    const float *first = elements(there, &dense);
    printf("layers.15.output at France: %.3f %.3f %.3f\n", (double)first[0], (double)first[1], (double)first[2]);
    mlxterp_array_free(dense);
    print_next("France", model, france);

    /* Steer: what sets Italy apart from France, added at the country's token. */
    mlxterp_trace *italy = trace_text(model, "The capital of Italy is");
    mlxterp_array *here = read_at(italy, "layers.15.output", -2), *direction;
    check(mlxterp_array_binary(MLXTERP_BINARY_SUBTRACT, here, there, &direction));
    mlxterp_intervention *everywhere, *steer;
    const int64_t country = -2;
    check(mlxterp_intervention_add_vector(direction, 1.0, &everywhere));
    check(mlxterp_intervention_select(everywhere, "positions", &country, 1, &steer));
    mlxterp_trace *steered = trace_text(model, "The capital of France is");
    check(mlxterp_trace_intervene(steered, "layers.15.output", steer));
    print_next("France, steered to Italy", model, steered);

    /* Patch: a value of one run in another. */
    mlxterp_index at[2] = {{MLXTERP_INDEX_SLICE, 0, MLXTERP_INDEX_NONE, MLXTERP_INDEX_NONE, 1},
                           {MLXTERP_INDEX_AT, 0, -2, 0, 1}};
    mlxterp_trace *patched = trace_text(model, "The capital of Italy is");
    check(mlxterp_trace_write_at(patched, "layers.15.output", at, 2, there));
    print_next("Italy, patched with France", model, patched);

    /* Fork: a second continuation of the first run, in which anything may be written. */
    mlxterp_trace *fork;
    mlxterp_intervention *zero;
    check(mlxterp_trace_fork(france, &fork));
    check(mlxterp_intervention_zero_out(&zero));
    check(mlxterp_trace_intervene(fork, "layers.15.mlp.output", zero));
    print_next("France, without an MLP", model, fork);
    print_next("France, still", model, france);

    /* An error: a status, and a message with the way out. */
    mlxterp_array *nothing;
    if (mlxterp_trace_read(france, "layers.99.mlp", &nothing) != MLXTERP_STATUS_OK) {
        printf("error: %s\n", mlxterp_last_error_message());
    }

    /* A hook that fails stops the call that led to it. */
    char failure[100] = "";
    mlxterp_intervention *hook;
    mlxterp_trace *hooked = trace_text(model, "The capital of France is");
    check(mlxterp_intervention_custom("refuse", refuse, failure, NULL, &hook));
    mlxterp_status status = mlxterp_trace_intervene(hooked, "layers.3.attn.output", hook);
    if (status == MLXTERP_STATUS_OK) {
        status = mlxterp_trace_read(hooked, "output", &nothing);
    }
    if (status == MLXTERP_STATUS_CALLBACK) {
        printf("hook: %s\n", failure);
    }

    mlxterp_array *arrays[] = {there, here, direction};
    mlxterp_intervention *interventions[] = {everywhere, steer, zero, hook};
    mlxterp_trace *traces[] = {france, italy, steered, patched, fork, hooked};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        mlxterp_array_free(arrays[i]);
    }
    for (size_t i = 0; i < sizeof interventions / sizeof *interventions; i++) {
        mlxterp_intervention_free(interventions[i]);
    }
    for (size_t i = 0; i < sizeof traces / sizeof *traces; i++) {
        mlxterp_trace_free(traces[i]);
    }
    mlxterp_model_free(model);
    printf("handles left: %zu\n", mlxterp_live_handles() - before);
    return 0;
}
