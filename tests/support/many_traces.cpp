// The steps of the tour on a tiny model, over and over: many_traces MODEL TRACES. Says how much memory was held after a
// fifth of the traces and after all of them, and how many handles are left.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>

#include <mlxterp.hpp>

using mlxterp::array;
using mlxterp::intervention;

static void unexpected(const char *what) {
    std::fprintf(stderr, "%s\n", what);
    std::exit(1);
}

template <class Call>
static void refused(mlxterp_status status, Call call) {
    try {
        call();
    } catch (const mlxterp::error &error) {
        if (error.status() == status) {
            return;
        }
    }
    unexpected("a mistake was not refused as it should be");
}

// Two traces: one, and its fork.
static void tour(const mlxterp::model &model, const mlxterp::batch &batch, int turn) {
    // Read, and write what was read, changed, at one position.
    const auto trace = model.trace(batch);
    const array part = trace.read("layers.0.attn.output")[{mlxterp::all, -1}];
    trace["layers.0.attn.output"].positions({-1}) += part;
    trace.read("output").eval();

    // Another continuation, with an intervention and a hook; every other hook throws.
    const auto fork = trace.fork();
    fork["layers.1.mlp"] = intervention::zero_out().positions({-1});
    const auto held = std::make_shared<int>(turn);
    const auto hook = [held](const array &value) -> array {
        if (*held % 2 == 0) {
            throw std::domain_error("every other time");
        }
        return value * 0.5;
    };
    bool thrown = false;
    try {
        fork["layers.1.attn.pattern"] = intervention::custom("hook", hook);
        fork.read("output").eval();
    } catch (const std::domain_error &) {
        thrown = true;
    }
    if (thrown != (turn % 2 == 0)) {
        unexpected("a hook's exception did not arrive, or one came from nowhere");
    }

    // Mistakes.
    refused(MLXTERP_STATUS_UNKNOWN_SITE, [&] { trace.read("layers.99.mlp"); });
    refused(MLXTERP_STATUS_STALE_WRITE, [&] { trace["layers.0.mlp.output"] = part; });
}

// In kilobytes; 0 where there is no /proc.
static long resident() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
        if (line.rfind("VmRSS:", 0) == 0) {
            return std::atol(line.c_str() + 6);
        }
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        return 2;
    }
    const int traces = std::atoi(argv[2]);
    {
        const auto model = mlxterp::model::load(argv[1]);
        const auto batch = model.batch_of_tokens({{3, 7, 11, 20}});
        for (int i = 2; i <= traces; i += 2) {
            tour(model, batch, i / 2);
            if (i == traces / 5 || i == traces) {
                std::printf("after %d traces: %zu bytes held, %ld kB resident\n", i, mlxterp::memory_used(), resident());
            }
        }
    }
    std::printf("handles left: %zu\n", mlxterp::live_handles());
}
