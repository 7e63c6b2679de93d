// The tour: load, list, read, steer, patch, fork, an error, a hook that fails. The same program in C (examples/c), Swift
// (examples/swift) and Python (examples/python) prints the same lines.
//
//     tour MODEL
#include <cstdio>
#include <optional>
#include <stdexcept>
#include <string>

#include <mlxterp.hpp>

using mlxterp::all;
using mlxterp::array;
using mlxterp::intervention;

static void print_next(const char *what, const mlxterp::model &model, const mlxterp::trace &trace) {
    const array probabilities = trace.read("output")[{0, -1}].softmax();
    const array top = probabilities.topk(2);
    const auto ids = top.to_vector<std::uint32_t>();
    const auto numbers = probabilities.take(top, -1).to_vector<float>();
    std::printf("%s:", what);
    for (std::size_t i = 0; i < ids.size(); i++) {
        std::printf(" '%s' %.0f%%", model.token_to_str(ids[i]).c_str(), 100.0 * static_cast<double>(numbers[i]));
    }
    std::printf("\n");
}

static void print_shape(const std::string &site, const array &value) {
    std::string shape;
    for (std::int64_t n : value.shape()) {
        shape += (shape.empty() ? "" : ", ") + std::to_string(n);
    }
    std::printf("%s: [%s], computed: %s\n", site.c_str(), shape.c_str(), value.is_evaluated() ? "yes" : "no");
}

static void tour(const std::string &path) {
    // Load.
    const auto model = mlxterp::model::load(path);
    std::printf("model: %zu layers of width %zu, %zu heads\n", model.num_layers(), model.hidden_size(), model.num_heads());

    // List sites. The list is JSON; its objects are counted here.
    const std::string sites = model.sites_json("layers.*.mlp");
    std::size_t count = 0;
    for (std::size_t at = 0; (at = sites.find("\"name\"", at)) != std::string::npos; at++) {
        count++;
    }
    std::printf("layers.*.mlp: %zu sites\n", count);

    // Read three. Nothing is computed yet.
    const auto france = model.trace("The capital of France is");
    for (const char *site : {"layers.3.attn.output", "layers.3.attn.pattern", "output"}) {
        print_shape(site, france[site]);
    }
    const array there = france.read("layers.15.output")[{0, -2}];
    const auto first = there.to_vector<float>();
    std::printf("layers.15.output at France: %.3f %.3f %.3f\n", static_cast<double>(first[0]),
                static_cast<double>(first[1]), static_cast<double>(first[2]));
    print_next("France", model, france);

    // Steer: what sets Italy apart from France, added at the country's token.
    const array here = model.trace("The capital of Italy is").read("layers.15.output")[{0, -2}];
    const auto steered = model.trace("The capital of France is");
    steered["layers.15.output"].positions({-2}) += here - there;
    print_next("France, steered to Italy", model, steered);

    // Patch: a value of one run in another.
    const auto patched = model.trace("The capital of Italy is");
    patched.write_at("layers.15.output", {all, -2}, there);
    print_next("Italy, patched with France", model, patched);

    // Fork: a second continuation of the first run, in which anything may be written.
    const auto fork = france.fork();
    fork["layers.15.mlp.output"] = intervention::zero_out();
    print_next("France, without an MLP", model, fork);
    print_next("France, still", model, france);

    // An error has the status, the site, and a message with the way out.
    try {
        france.read("layers.99.mlp");
    } catch (const mlxterp::error &error) {
        std::printf("error: %s\n", error.what());
    }

    // What a hook throws comes back as itself.
    const auto refuse = [](const array &, const mlxterp::event &event) -> std::optional<array> {
        throw std::domain_error("refused at " + event.site);
    };
    try {
        const auto hooked = model.trace("The capital of France is");
        hooked["layers.3.attn.output"] = intervention::custom("refuse", refuse);
        hooked.read("output");
    } catch (const std::domain_error &error) {
        std::printf("hook: %s\n", error.what());
    }
}

int main(int argc, char **argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: %s MODEL\n", argv[0]);
        return 2;
    }
    const std::size_t before = mlxterp::live_handles();
    try {
        tour(argv[1]);
    } catch (const mlxterp::error &error) {
        std::fprintf(stderr, "error %d: %s\n", static_cast<int>(error.status()), error.what());
        return 1;
    }
    std::printf("handles left: %zu\n", mlxterp::live_handles() - before);
}
