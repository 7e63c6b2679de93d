/*
 * A model of one's own: a description as text, weights as arrays, and a module that this program computes.
 *
 *     own_model
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "mlxterp.h"

/* Everything that can fail returns a status; the message names the value that was wrong and the way out. */
static void check(mlxterp_status status) {
    if (status != MLXTERP_STATUS_OK) {
        fprintf(stderr, "error %d: %s\n", (int)status, mlxterp_last_error_message());
        exit(1);
    }
}

/* Main takes an array, so the model is no language model; `gate` is a function of this program. */
static const char *const description =
    "arch mine\n"
    "\n"
    "Main(x):\n"
    "  gate: opaque(outputs=2)\n"
    "  hidden = relu(up(x))\n"
    "  opened, closed = gate(hidden)\n"
    "  return down(opened) - closed\n";

/* Doubles its input, and gives its sum besides. Lazy: nothing is computed in here. */
static int32_t gate(void *user, const mlxterp_opaque_call *call, mlxterp_array **out_values) {
    ++*(int *)user;
    mlxterp_status status =
        mlxterp_array_binary(MLXTERP_BINARY_ADD, call->inputs[0], call->inputs[0], &out_values[0]);
    if (status == MLXTERP_STATUS_OK) {
        status = mlxterp_array_reduce(MLXTERP_REDUCE_SUM, call->inputs[0], -1, true, &out_values[1]);
    }
    return (int32_t)status;
}

/* Called once, when nobody needs the function any more. */
static void let_go(void *user) {
    printf("the function was called %d time(s)\n", *(int *)user);
}

static mlxterp_array *matrix(const float *numbers, int64_t rows, int64_t columns) {
    const int64_t shape[2] = {rows, columns};
    mlxterp_array *array;
    check(mlxterp_array_from_data(numbers, shape, 2, MLXTERP_DTYPE_FLOAT32, &array));
    return array;
}

/* Prints an array of floats. Frees it. */
static void print(const char *name, mlxterp_array *array) {
    mlxterp_array *dense;
    const void *data;
    check(mlxterp_array_contiguous(array, &dense));
    check(mlxterp_array_data(dense, &data));
    printf("%s:", name);
    for (size_t i = 0; i < mlxterp_array_size(dense); i++) {
        printf(" %g", (double)((const float *)data)[i]);
    }
    printf("\n");
    mlxterp_array_free(dense);
    mlxterp_array_free(array);
}

static void read(const mlxterp_trace *trace, const char *site) {
    mlxterp_array *value;
    check(mlxterp_trace_read(trace, site, &value));
    print(site, value);
}

int main(void) {
    const float up[6] = {1, 0, 0, 1, 1, -1};    /* three features out of two */
    const float down[3] = {1, 2, 3};            /* one out of three */
    const float numbers[4] = {1, 2, 3, 4};      /* two rows */
    static int calls;

    mlxterp_opaque *function;
    check(mlxterp_opaque_new(gate, &calls, let_go, &function));
    const char *const opaque_names[1] = {"gate"};
    const mlxterp_opaque *const opaques[1] = {function};
    mlxterp_model_options options;
    check(mlxterp_model_options_init(&options));
    options.opaque_names = opaque_names;
    options.opaques = opaques;
    options.opaque_count = 1;

    mlxterp_array *arrays[2] = {matrix(up, 3, 2), matrix(down, 1, 3)};
    const char *const names[2] = {"up.weight", "down.weight"};
    const mlxterp_array *const weights[2] = {arrays[0], arrays[1]};
    mlxterp_model *model;
    check(mlxterp_model_from_weights(description, "{}", names, weights, 2, &options, &model));
    /* The model shares the arrays and the function; these handles have done their work. */
    mlxterp_array_free(arrays[0]);
    mlxterp_array_free(arrays[1]);
    mlxterp_opaque_free(function);

    mlxterp_array *x = matrix(numbers, 2, 2);
    const mlxterp_array *const inputs[1] = {x};
    mlxterp_batch *batch;
    mlxterp_trace *trace;
    check(mlxterp_batch_from_arrays(model, inputs, 1, &batch));
    check(mlxterp_trace_start(model, batch, NULL, &trace));
    read(trace, "hidden");
    read(trace, "gate.output");
    read(trace, "gate.output.1");
    read(trace, "output");

    /* What the function gave is a value like any other. */
    mlxterp_trace *fork;
    mlxterp_array *zero;
    check(mlxterp_trace_fork(trace, &fork));
    check(mlxterp_array_scalar(0.0, MLXTERP_DTYPE_FLOAT32, &zero));
    check(mlxterp_trace_write(fork, "gate.output.1", zero));
    read(fork, "output");

    mlxterp_array_free(zero);
    mlxterp_trace_free(fork);
    mlxterp_trace_free(trace);
    mlxterp_batch_free(batch);
    mlxterp_array_free(x);
    mlxterp_model_free(model);
    printf("live handles: %zu\n", mlxterp_live_handles());
    return 0;
}
