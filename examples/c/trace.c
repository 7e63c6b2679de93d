/*
 * A tour of the C interface: load a model, look inside it, change it, and see what it would say next.
 *
 *     trace MODEL "The capital of France is"      a model with a tokenizer
 *     trace MODEL --tokens 3 7 11 20              any model
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mlxterp.h"

/* Everything that can fail returns a status; the message names the value that was wrong and the way out. */
static void check(mlxterp_status status) {
    if (status != MLXTERP_STATUS_OK) {
        fprintf(stderr, "error %d: %s\n", (int)status, mlxterp_last_error_message());
        exit(1);
    }
}

/* The batch of the command line: a text, or token ids after --tokens. */
static mlxterp_batch *read_batch(const mlxterp_model *model, int count, char **arguments) {
    mlxterp_batch *batch;
    if (strcmp(arguments[0], "--tokens") != 0) {
        const char *text = arguments[0];
        check(mlxterp_batch_from_texts(model, &text, 1, &batch));
        return batch;
    }
    size_t length = (size_t)count - 1;
    uint32_t *ids = malloc((length + 1) * sizeof *ids);
    if (ids == NULL) {
        exit(1);
    }
    for (size_t i = 0; i < length; i++) {
        ids[i] = (uint32_t)strtoul(arguments[i + 1], NULL, 10);
    }
    check(mlxterp_batch_from_tokens(model, ids, &length, 1, &batch));
    free(ids);
    return batch;
}

/* An array's numbers as float, whatever its dtype: computed here, and in row-major order. Frees `array`. */
static mlxterp_array *as_floats(mlxterp_array *array) {
    mlxterp_array *floats, *dense;
    check(mlxterp_array_cast(array, MLXTERP_DTYPE_FLOAT32, &floats));
    check(mlxterp_array_contiguous(floats, &dense));
    mlxterp_array_free(floats);
    mlxterp_array_free(array);
    return dense;
}

/* The value at the last position of row 0, lazily. Frees `array`, which has axes [row, position, ...]. */
static mlxterp_array *at_last_position(mlxterp_array *array) {
    mlxterp_index at[2] = {{MLXTERP_INDEX_AT, 0, 0, 0, 1}, {MLXTERP_INDEX_AT, 0, -1, 0, 1}};
    mlxterp_array *part;
    check(mlxterp_array_index(array, at, 2, &part));
    mlxterp_array_free(array);
    return part;
}

/* The five most likely next tokens of a trace. */
static void print_top(const char *title, const mlxterp_model *model, const mlxterp_trace *trace) {
    mlxterp_array *logits, *all, *top, *chosen;
    check(mlxterp_trace_read(trace, "output", &logits));
    logits = at_last_position(logits);
    check(mlxterp_array_softmax(logits, -1, &all));
    check(mlxterp_array_topk(all, 5, &top));
    check(mlxterp_array_take(all, top, -1, &chosen));
    mlxterp_array *ids;
    check(mlxterp_array_cast(top, MLXTERP_DTYPE_UINT32, &ids));
    mlxterp_array_free(top);
    check(mlxterp_array_contiguous(ids, &top));
    chosen = as_floats(chosen);

    const void *id_data, *probability_data;
    check(mlxterp_array_data(top, &id_data));
    check(mlxterp_array_data(chosen, &probability_data));
    printf("%s\n", title);
    for (int i = 0; i < 5; i++) {
        uint32_t id = ((const uint32_t *)id_data)[i];
        double percent = 100.0 * ((const float *)probability_data)[i];
        char *token;
        if (mlxterp_model_token_to_str(model, id, &token) == MLXTERP_STATUS_OK) {
            printf("  %5.1f %%  '%s'\n", percent, token);
            mlxterp_string_free(token);
        } else {
            printf("  %5.1f %%  token %" PRIu32 "\n", percent, id);
        }
    }
    mlxterp_array_free(logits);
    mlxterp_array_free(all);
    mlxterp_array_free(ids);
    mlxterp_array_free(top);
    mlxterp_array_free(chosen);
}

/* A hook: halves whatever it is given, and counts. It is called when the trace passes its site. */
static int32_t halve(void *user, const mlxterp_event *event, mlxterp_array **out_value) {
    mlxterp_array *half;
    mlxterp_status status = mlxterp_array_scalar_like(0.5, event->value, &half);
    if (status == MLXTERP_STATUS_OK) {
        status = mlxterp_array_binary(MLXTERP_BINARY_MULTIPLY, event->value, half, out_value);
        mlxterp_array_free(half);
    }
    *(int *)user += 1;
    return (int32_t)status;
}

static void forget(void *user) {
    printf("  the hook was called %d time(s) and is no longer needed\n", *(int *)user);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s MODEL TEXT\n       %s MODEL --tokens ID...\n", argv[0], argv[0]);
        return 2;
    }
    if (mlxterp_abi_version() != MLXTERP_ABI_VERSION) {
        fprintf(stderr, "this program was compiled for another libmlxterp\n");
        return 2;
    }

    mlxterp_model *model;
    check(mlxterp_model_load(argv[1], NULL, &model));
    mlxterp_batch *batch = read_batch(model, argc - 2, argv + 2);
    size_t layers = mlxterp_model_num_layers(model);
    size_t layer = layers > 3 ? 3 : layers - 1;
    printf("mlxterp %s on %s: %zu layers of width %zu\n\n", mlxterp_version(), mlxterp_backend(), layers,
           mlxterp_model_hidden_size(model));

    /* Read. A trace computes nothing by itself: an array has its shape at once and its values after eval. */
    char site[64], pattern[64];
    snprintf(site, sizeof site, "layers.%zu.attn.output", layer);
    mlxterp_trace *plain;
    check(mlxterp_trace_start(model, batch, NULL, &plain));
    mlxterp_array *attention;
    check(mlxterp_trace_read(plain, site, &attention));
    const int64_t *shape = mlxterp_array_shape(attention);
    printf("%s has shape [%" PRId64 ", %" PRId64 ", %" PRId64 "], computed: %s\n", site, shape[0], shape[1], shape[2],
           mlxterp_array_is_evaluated(attention) ? "yes" : "no");
    attention = as_floats(attention);
    const void *data;
    check(mlxterp_array_data(attention, &data));
    printf("  its first values: %g %g %g\n\n", (double)((const float *)data)[0], (double)((const float *)data)[1],
           (double)((const float *)data)[2]);
    mlxterp_array_free(attention);
    print_top("next token", model, plain);

    /* Steer: add a direction to the residual stream. Here, what sets the last position apart from the mean position. */
    snprintf(pattern, sizeof pattern, "layers.%zu.output", layer);
    mlxterp_array *residual, *mean, *last, *direction;
    check(mlxterp_trace_read(plain, pattern, &residual));
    check(mlxterp_array_reduce(MLXTERP_REDUCE_MEAN, residual, 1, false, &mean));
    last = at_last_position(residual);
    check(mlxterp_array_binary(MLXTERP_BINARY_SUBTRACT, last, mean, &direction));
    mlxterp_intervention *steer;
    check(mlxterp_intervention_add_vector(direction, -1.0, &steer));
    const char *patterns[] = {pattern};
    const mlxterp_intervention *interventions[] = {steer};
    mlxterp_trace_options options;
    check(mlxterp_trace_options_init(&options));
    options.patterns = patterns;
    options.interventions = interventions;
    options.intervention_count = 1;
    mlxterp_trace *steered;
    check(mlxterp_trace_start(model, batch, &options, &steered));
    print_top("\nnext token, steered", model, steered);

    /* Ablate: zeros in place of what an attention layer adds. */
    mlxterp_intervention *zero;
    check(mlxterp_intervention_zero_out(&zero));
    mlxterp_trace *ablated;
    check(mlxterp_trace_start(model, batch, NULL, &ablated));
    check(mlxterp_trace_intervene(ablated, site, zero));
    print_top("\nnext token, without this attention layer", model, ablated);

    /* Anything else is a hook. It is kept for as long as something needs it. */
    int calls = 0;
    mlxterp_intervention *custom;
    check(mlxterp_intervention_custom("halve", halve, &calls, forget, &custom));
    mlxterp_trace *hooked;
    check(mlxterp_trace_start(model, batch, NULL, &hooked));
    check(mlxterp_trace_intervene(hooked, site, custom));
    print_top("\nnext token, with half of it", model, hooked);
    mlxterp_intervention_free(custom);
    mlxterp_trace_free(hooked);

    /* A mistake is a status and a message, and harms nothing. */
    mlxterp_array *nothing;
    mlxterp_status status = mlxterp_trace_read(plain, "layers.99.mlp", &nothing);
    printf("\nstatus %d: %s\n", (int)status, mlxterp_last_error_message());

    /* Every handle has one owner, this program. */
    mlxterp_array_free(mean);
    mlxterp_array_free(last);
    mlxterp_array_free(direction);
    mlxterp_intervention_free(steer);
    mlxterp_intervention_free(zero);
    mlxterp_trace_free(plain);
    mlxterp_trace_free(steered);
    mlxterp_trace_free(ablated);
    mlxterp_batch_free(batch);
    mlxterp_model_free(model);
    printf("live handles: %zu\n", mlxterp_live_handles());
    return mlxterp_live_handles() == 0 ? 0 : 1;
}
