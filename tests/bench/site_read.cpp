// What a site read costs in C and in C++: building a traced graph with reads, less building it with one.
//
//     site_read MODEL
#include <mlxterp.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

// The list is JSON, in a known order of keys: enough for a benchmark.
static std::vector<std::string> names(const std::string &json) {
    std::vector<std::string> found;
    const std::string key = "\"name\":\"", flag = "\"on_touch\":";
    for (std::size_t at = 0; (at = json.find(key, at)) != std::string::npos;) {
        at += key.size();
        const std::string name = json.substr(at, json.find('"', at) - at);
        at = json.find(flag, at) + flag.size();
        if (json.compare(at, 5, "false") == 0) {
            found.push_back(name);
        }
    }
    return found;
}

// The best of many: what the work costs when nothing else runs.
static double best(const std::function<void()> &work) {
    std::vector<double> times;
    work();
    for (int i = 0; i < 200; i++) {
        const auto start = std::chrono::steady_clock::now();
        work();
        times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
    }
    return *std::min_element(times.begin(), times.end());
}

int main(int argc, char **argv) {
    if (argc != 2) {
        return 2;
    }
    const auto model = mlxterp::model::load(argv[1]);
    const auto sites = names(model.sites_json());
    std::vector<std::uint32_t> ids(128);
    for (std::uint32_t i = 0; i < ids.size(); i++) {
        ids[i] = 1000 + i;
    }
    const auto batch = model.batch_of_tokens({ids});
    const auto c = [&](std::size_t reads) {
        mlxterp_trace *trace = nullptr;
        mlxterp_array *array = nullptr;
        mlxterp_trace_start(model.get(), batch.get(), nullptr, &trace);
        for (std::size_t i = 0; i < reads; i++) {
            mlxterp_trace_read(trace, sites[i].c_str(), &array);
            mlxterp_array_free(array);
        }
        mlxterp_trace_read(trace, "output", &array);
        mlxterp_array_free(array);
        mlxterp_trace_free(trace);
    };
    const auto cpp = [&](std::size_t reads) {
        const auto trace = model.trace(batch);
        for (std::size_t i = 0; i < reads; i++) {
            trace.read(sites[i]);
        }
        trace.read("output");
    };
    const std::size_t all = sites.size();
    const double bare = best([&] { model.forward(batch); });
    const double none = best([&] { c(0); });
    const double each_c = (best([&] { c(all); }) - none) / static_cast<double>(all);
    const double each_cpp = (best([&] { cpp(all); }) - best([&] { cpp(0); })) / static_cast<double>(all);
    std::printf("%zu reads over a bare graph of %.2f ms; a trace adds %.0f us\n", all, bare / 1e3, none - bare);
    std::printf("C\t%.3f\nC++\t%.3f\n", each_c, each_cpp);
}
