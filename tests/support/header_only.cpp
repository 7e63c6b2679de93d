// What mlxterp.hpp adds to mlxterp.h, on a tiny model: `header_only MODEL REPEATS`.
#include <mlxterp.hpp>
#include <mlxterp.hpp>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <thread>
#include <type_traits>

using mlxterp::array;
using mlxterp::intervention;

static_assert(!std::is_copy_constructible_v<array> && std::is_nothrow_move_constructible_v<array>);
static_assert(!std::is_copy_constructible_v<mlxterp::model> && std::is_nothrow_move_assignable_v<mlxterp::model>);
static_assert(!std::is_copy_constructible_v<mlxterp::trace> && !std::is_copy_constructible_v<intervention>);
static_assert(noexcept(mlxterp::detail::hook<array (*)(const array &)>::call(nullptr, nullptr, nullptr)));

#define HOLDS(condition)                                                       \
    do {                                                                       \
        if (!(condition)) {                                                    \
            std::printf("line %d: %s does not hold\n", __LINE__, #condition);  \
            std::exit(1);                                                      \
        }                                                                      \
    } while (0)

using floats = std::vector<float>;

static void arrays() {
    const array a = array::from(floats{1, 2, 3}), b = array::from(floats{4, 5, 6});
    HOLDS((a + b).to_vector<float>() == (floats{5, 7, 9}));
    HOLDS((b - a).to_vector<float>() == (floats{3, 3, 3}));
    HOLDS((a * b / 2).to_vector<float>() == (floats{2, 5, 9}));
    HOLDS((1 - a * 2).to_vector<float>() == (floats{-1, -3, -5}));
    HOLDS((-a).to_vector<double>() == (std::vector<double>{-1, -2, -3}));
    HOLDS(a.matmul(b.reshape({3, 1})).item<int>() == 32);
    HOLDS(b.topk(1).item<std::int64_t>() == 2);
    HOLDS(mlxterp::stack({&a, &b}, 0).shape() == (std::vector<std::int64_t>{2, 3}));
    HOLDS(mlxterp::concatenate({&a, &b}, 0).size() == 6);
    HOLDS(std::abs(a.softmax().sum(0).item<float>() - 1) < 1e-6F);
    const array m = array::from(std::vector<std::int32_t>{0, 1, 2, 3, 4, 5}, {2, 3});
    HOLDS((m[{1, -1}].item<int>() == 5));
    HOLDS((m[{mlxterp::all, mlxterp::slice(1, std::nullopt)}].to_vector<int>() == std::vector<int>{1, 2, 4, 5}));
    HOLDS((m[{mlxterp::ellipsis, 0}].to_vector<int>() == std::vector<int>{0, 3}));
    HOLDS((m[{mlxterp::new_axis, 0}].shape() == std::vector<std::int64_t>{1, 3}));
    HOLDS((m.with({0}, array::scalar(9, MLXTERP_DTYPE_INT32)).to_vector<int>() == std::vector<int>{9, 9, 9, 3, 4, 5}));
    HOLDS(m.transpose({1, 0}).to_vector<int>() == (std::vector<int>{0, 3, 1, 4, 2, 5}));

    // The very buffer, on both sides of a share.
    const array second = a.share();
    HOLDS(second.data<float>() == a.data<float>() && a.is_shared(a.data<float>()));
    const array adopted = array::adopt(floats(4096, 2.0F), {64, 64});
    HOLDS(adopted.sum(0).sum(0).item<float>() == 8192);
    array moved = array::from(floats{1}), target = array::from(floats{2});
    target = std::move(moved);
    HOLDS(target.item<float>() == 1 && moved.get() == nullptr);
}

template <class Call>
static mlxterp::error refused(mlxterp_status status, Call call) {
    try {
        call();
    } catch (const mlxterp::error &error) {
        if (error.status() != status) {
            std::printf("status %d: %s\n", static_cast<int>(error.status()), error.what());
            std::exit(1);
        }
        return error;
    }
    std::printf("status %d was expected, and nothing was thrown\n", static_cast<int>(status));
    std::exit(1);
}

struct mine : std::runtime_error {
    explicit mine(int n) : std::runtime_error("mine"), number(n) {}
    int number;
};

static void errors(const mlxterp::model &model, const mlxterp::trace &trace) {
    const auto unknown = refused(MLXTERP_STATUS_UNKNOWN_SITE, [&] { trace["layers.99.mlp"].read(); });
    HOLDS(unknown.site() == "layers.99.mlp");
    HOLDS(std::string(unknown.what()).find("did you mean 'layers.1.mlp'?") != std::string::npos);
    refused(MLXTERP_STATUS_NOT_FOUND, [] { mlxterp::model::load("/nowhere/at/all"); });
    refused(MLXTERP_STATUS_SHAPE, [] { array::from(floats{1, 2}, {3}); });
    refused(MLXTERP_STATUS_SHAPE, [] { array::from(floats{1, 2}) + array::from(floats{1, 2, 3}); });
    refused(MLXTERP_STATUS_INVALID_ARGUMENT, [] { array::from(floats{1}).data<int>(); });
    refused(MLXTERP_STATUS_INVALID_ARGUMENT, [&] { array().eval(); });
    refused(MLXTERP_STATUS_INVALID_ARGUMENT, [&] { trace["output"].positions({0}).read(); });
    refused(MLXTERP_STATUS_STRICT, [&] {
        mlxterp::trace_options strict;
        strict.strict = true;
        const auto idle = model.trace(model.batch_of_tokens({{3, 7}}), strict);
        idle["layers.0"] *= 1.0;
        idle.read("output");
        idle.finish();
    });

    // What a hook throws comes back as itself, on the thread that led to it; and what it holds is let go of.
    const auto held = std::make_shared<int>(5);
    {
        const auto failing = intervention::custom("failing", [held](const array &) -> array { throw mine(*held); });
        HOLDS(held.use_count() == 2);
        const auto fork = trace.fork();
        bool caught = false;
        try {
            fork["layers.0.attn"] = failing;
            fork.read("output");
        } catch (const mine &error) {
            caught = error.number == 5;
        }
        HOLDS(caught);
        std::thread([&] {
            try {
                const auto own = model.trace(model.batch_of_tokens({{3, 7}}));
                own["layers.0"] = failing;
                own.read("output");
                HOLDS(false);
            } catch (const mine &) {
            }
        }).join();
    }
    HOLDS(held.use_count() == 1);

    // A load that is told to stop, by an exception and by false.
    mlxterp::load_options loud;
    loud.progress = [](const char *, std::uint64_t, std::uint64_t) -> bool { throw mine(1); };
    bool caught = false;
    try {
        mlxterp::model::load(std::getenv("MODEL"), loud);
    } catch (const mine &) {
        caught = true;
    }
    HOLDS(caught);
    loud.progress = [](const char *, std::uint64_t, std::uint64_t) { return false; };
    refused(MLXTERP_STATUS_CALLBACK, [&] { mlxterp::model::load(std::getenv("MODEL"), loud); });
}

static void traces(const mlxterp::model &model, const mlxterp::trace &trace) {
    const floats plain = trace.read("output").to_vector<float>();
    HOLDS(model.forward(trace.batch()).to_vector<float>() == plain);

    const auto written = trace.fork();
    written["layers.0.attn.output"] = written["layers.0.attn.output"].read() * 0;
    const auto zeroed = trace.fork();
    zeroed["layers.0.attn"] = intervention::zero_out();
    HOLDS(written.read("output").to_vector<float>() == zeroed.read("output").to_vector<float>());
    HOLDS(written.read("output").to_vector<float>() != plain);
    HOLDS(trace.read("output").to_vector<float>() == plain);

    // At one position only.
    const auto shifted = trace.fork();
    shifted["layers.1.output"].positions({-1}) += array::full({24}, 1.0);
    const array difference = shifted.read("layers.1.output") - trace.read("layers.1.output");
    HOLDS(std::abs(difference.sum(-1).sum(-1).item<float>() - 24) < 1e-4F);
    HOLDS(shifted.receipts_json().find("\"positions\":[3]") != std::string::npos);

    // A hook that sees the event and changes the value.
    std::string seen;
    auto halve = intervention::custom("halve", [&seen](const array &value, const mlxterp::event &event) {
        seen = event.site + " " + std::to_string(event.lengths.at(0));
        return value * 0.5;
    });
    const intervention scale = intervention::scale(0.5);
    mlxterp::trace_options options;
    options.interventions.emplace_back("layers.0.attn", &halve);
    const floats hooked = model.trace(trace.batch(), options).read("output").to_vector<float>();
    options.interventions = {{"layers.0.attn", &scale}};
    HOLDS(hooked == model.trace(trace.batch(), options).read("output").to_vector<float>());
    HOLDS(seen == "layers.0.attn.output 4");
    HOLDS(intervention::from_json(scale.heads({1}).to_json()) == scale.heads({1}));
    HOLDS(scale != halve && scale.positions({-1}).describe() == "scale(0.5) positions=[-1]");

    // A cache goes on where it stopped.
    const mlxterp::cache nothing;
    mlxterp::trace_options remembering;
    remembering.after = &nothing;
    const auto first = model.trace(model.batch_of_tokens({{3, 7, 11}}), remembering);
    const mlxterp::cache after = first.cache();
    HOLDS(after.lengths() == std::vector<std::size_t>{3} && nothing.lengths().empty());
    remembering.after = &after;
    const floats next = model.trace(model.batch_of_tokens({{20}}), remembering).read("output")[{0, 0}].to_vector<float>();
    for (std::size_t i = 0; i < next.size(); i++) {
        HOLDS(std::abs(next[i] - plain[3 * next.size() + i]) < 1e-4F);
    }
    HOLDS(trace.fork_rows(3).batch().size() == 3);
    HOLDS(model.plan_json(trace.batch()).find("\"shape\"") != std::string::npos);
}

static void own_models() {
    const array up = array::from(floats{1, 0, 0, 1, -1, -1}, {3, 2}), down = array::from(floats{1, 10, 100}, {1, 3});
    const auto mlp = mlxterp::model::from_weights("arch mlp\n\nMain(x):\n  h = relu(up(x))\n  return down(h)\n", "{}",
                                                  {{"up.weight", &up}, {"down.weight", &down}});
    const array x = array::from(floats{2, 3, -1, -4}, {2, 2});
    const auto trace = mlp.trace(mlp.batch_of_arrays({&x}));
    HOLDS(trace.read("output").to_vector<float>() == (floats{32, 500}));
    refused(MLXTERP_STATUS_NOT_FOUND, [] { mlxterp::model::from_files("arch a\n\nMain(x):\n  return up(x)\n", "{}", {"/no"}); });

    const auto held = std::make_shared<int>(2);
    {
        const auto twice = mlxterp::opaque::from([held](const std::vector<array> &in, const mlxterp::opaque_call &call) {
            if (in.at(0).sum(0).sum(0).item<float>() > 100) {
                throw mine(static_cast<int>(call.output_count));
            }
            std::vector<array> out;
            out.push_back(in.at(0) * *held);
            return out;
        });
        mlxterp::load_options options;
        options.opaques.emplace_back("double", &twice);
        const array eye = array::from(floats{1, 0, 0, 1}, {2, 2});
        const auto model = mlxterp::model::from_weights(
            "arch routed\n\nMain(x):\n  double: opaque(outputs=1)\n  return double(lin(x))\n", "{}", {{"lin.weight", &eye}},
            options);
        HOLDS(model.trace(model.batch_of_arrays({&x})).read("output").to_vector<float>() == (floats{4, 6, -2, -8}));
        const array large = array::full({1, 2}, 1000);
        bool caught = false;
        try {
            model.trace(model.batch_of_arrays({&large})).read("output").eval();
        } catch (const mine &error) {
            caught = error.number == 1;
        }
        HOLDS(caught);
    }
    HOLDS(held.use_count() == 1);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        return 2;
    }
    setenv("MODEL", argv[1], 1);
    {
        const auto model = mlxterp::model::load(argv[1]);
        HOLDS(model.num_layers() == 2 && model.hidden_size() == 24 && model.vocab_size() == 64);
        const auto batch = model.batch_of_tokens({{3, 7, 11, 20}});
        HOLDS(batch.width() == 4 && batch.ids().to_vector<int>() == (std::vector<int>{3, 7, 11, 20}));
        const auto trace = model.trace(batch);
        arrays();
        traces(model, trace);
        errors(model, trace);
        own_models();
        // Memory does not grow.
        std::size_t halfway = 0;
        const int repeats = std::atoi(argv[2]);
        for (int i = 0; i < repeats; i++) {
            const auto one = model.trace(batch);
            one["layers.0.mlp"] = one["layers.0.mlp"].read() * 0.5;
            one.read("output").eval();
            if (i == repeats / 2) {
                halfway = mlxterp::memory_used();
            } else if (i > repeats / 2) {
                HOLDS(mlxterp::memory_used() == halfway);
            }
        }
    }
    std::printf("every promise held; handles left: %zu\n", mlxterp::live_handles());
    return mlxterp::live_handles() == 0 ? 0 : 1;
}
