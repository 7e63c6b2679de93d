/* The model: loading it, its names, its tokens, its traces. */
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "opaque.hpp"
#include "trace.hpp"

namespace mlxterp {

/// How a model is loaded. Leave out what should be as usual.
struct load_options {
    /// The dtype to compute in, such as "float32".
    std::optional<std::string> dtype;
    /// Whether quantised weights stay packed.
    std::optional<bool> keep_quantised;
    /// Never touches the network.
    bool offline = false;
    /// An architecture description: the name of a shipped one, or the text of a new one.
    std::optional<std::string> description;
    /// Of the Hugging Face hub.
    std::optional<std::string> revision, token, cache_dir;
    /// Told `("download" or "load", bytes done, bytes in all)`; false cancels, and so does an exception, which load
    /// throws then.
    std::function<bool(const char *stage, std::uint64_t done, std::uint64_t total)> progress;
    /// Who computes the opaque modules of the description, by path, pattern or name. They must live until the load ends.
    std::vector<std::pair<std::string, const opaque *>> opaques;
};

/// How a trace is started.
struct trace_options {
    /// Each a site or pattern and what is done there, applied in this order. They must live until the call ends.
    std::vector<std::pair<std::string, const intervention *>> interventions;
    /// Keep every value from the start; else what is read, saved or written.
    bool keep_all = false;
    /// A write that changed or reached nothing is an error of finish.
    bool strict = false;
    /// What was seen before these tokens; nullptr: nothing is remembered.
    const cache *after = nullptr;
};

/// A language model whose every module's input and output has a name. Any thread may use it.
class model {
public:
    /// Takes a handle of the C interface over.
    explicit model(mlxterp_model *raw) noexcept : raw_(raw) {}

    /// Loads a directory in mlx-lm's layout, a .gguf file, or a Hugging Face id. Never runs code from it.
    static model load(const std::string &source, const load_options &wanted = {}) {
        return with_options(wanted, [&](const mlxterp_model_options *options, mlxterp_model **out) {
            return mlxterp_model_load(source.c_str(), options, out);
        });
    }

    /// A model from a description (its text, or the name of a shipped one), a config (a JSON object), and arrays under the
    /// names that the description knows, which are shared and used as they are.
    static model from_weights(const std::string &description, const std::string &config_json,
                              const std::vector<std::pair<std::string, const array *>> &weights,
                              const load_options &wanted = {}) {
        std::vector<const char *> names;
        std::vector<const mlxterp_array *> arrays;
        for (const auto &[name, value] : weights) {
            names.push_back(name.c_str());
            arrays.push_back(value->get());
        }
        return with_options(wanted, [&](const mlxterp_model_options *options, mlxterp_model **out) {
            return mlxterp_model_from_weights(description.c_str(), config_json.c_str(), names.data(), arrays.data(),
                                              names.size(), options, out);
        });
    }

    /// The same with the tensors in `.safetensors` files, or directories of them.
    static model from_files(const std::string &description, const std::string &config_json,
                            const std::vector<std::string> &files, const load_options &wanted = {}) {
        std::vector<const char *> paths;
        for (const std::string &file : files) {
            paths.push_back(file.c_str());
        }
        return with_options(wanted, [&](const mlxterp_model_options *options, mlxterp_model **out) {
            return mlxterp_model_from_files(description.c_str(), config_json.c_str(), paths.data(), paths.size(), options,
                                            out);
        });
    }

    /// A second handle on the same model.
    model share() const { return model(mlxterp_model_retain(get())); }

    std::size_t num_layers() const noexcept { return mlxterp_model_num_layers(get()); }
    std::size_t num_heads() const noexcept { return mlxterp_model_num_heads(get()); }
    std::size_t hidden_size() const noexcept { return mlxterp_model_hidden_size(get()); }
    std::size_t vocab_size() const noexcept { return mlxterp_model_vocab_size(get()); }

    /// The model in numbers and its module tree, as JSON.
    std::string info_json() const {
        return detail::text([&](auto out) { return mlxterp_model_info_json(get(), out); });
    }
    /// The normalised config.json.
    std::string config_json() const {
        return detail::text([&](auto out) { return mlxterp_model_config_json(get(), out); });
    }
    /// The module tree in words.
    std::string describe() const {
        return detail::text([&](auto out) { return mlxterp_model_describe(get(), out); });
    }
    /// The sites that a name or pattern means, all without one, as a JSON list in execution order.
    std::string sites_json(const std::optional<std::string> &pattern = std::nullopt) const {
        const char *asked = pattern ? pattern->c_str() : nullptr;
        return detail::text([&](auto out) { return mlxterp_model_sites_json(get(), asked, out); }, pattern.value_or(""));
    }
    /// Shape and dtype of every site for a batch, without computing, as a JSON list.
    std::string plan_json(const class batch &prompts) const {
        return detail::text([&](auto out) { return mlxterp_model_plan_json(get(), prompts.get(), out); });
    }

    // Tokens.

    std::vector<std::uint32_t> encode(const std::string &text, bool add_special_tokens = true) const {
        std::size_t count = 0;
        detail::check(mlxterp_model_encode(get(), text.c_str(), add_special_tokens, nullptr, 0, &count));
        std::vector<std::uint32_t> ids(count);
        detail::check(mlxterp_model_encode(get(), text.c_str(), add_special_tokens, ids.data(), ids.size(), &count));
        return ids;
    }
    std::string decode(const std::vector<std::uint32_t> &ids, bool skip_special_tokens = false) const {
        return detail::text([&](auto out) {
            return mlxterp_model_decode(get(), ids.data(), ids.size(), skip_special_tokens, out);
        });
    }
    /// Text of one token, with the space before it where it has one.
    std::string token_to_str(std::uint32_t id) const {
        return detail::text([&](auto out) { return mlxterp_model_token_to_str(get(), id, out); });
    }

    /// A batch of texts.
    class batch batch(const std::vector<std::string> &texts) const {
        std::vector<const char *> raw;
        for (const std::string &text : texts) {
            raw.push_back(text.c_str());
        }
        return mlxterp::batch(detail::made<mlxterp_batch>(
            [&](auto out) { return mlxterp_batch_from_texts(get(), raw.data(), raw.size(), out); }));
    }
    /// A batch of token ids, one vector a row.
    class batch batch_of_tokens(const std::vector<std::vector<std::uint32_t>> &rows) const {
        std::vector<std::uint32_t> ids;
        std::vector<std::size_t> lengths;
        for (const auto &row : rows) {
            ids.insert(ids.end(), row.begin(), row.end());
            lengths.push_back(row.size());
        }
        return mlxterp::batch(detail::made<mlxterp_batch>([&](auto out) {
            return mlxterp_batch_from_tokens(get(), ids.data(), lengths.data(), lengths.size(), out);
        }));
    }

    /// A batch of what a model of one's own takes, in the order of its `Main`: rows along the first axis.
    class batch batch_of_arrays(const std::vector<const array *> &arrays) const {
        const auto raw = detail::raw(arrays);
        return mlxterp::batch(detail::made<mlxterp_batch>(
            [&](auto out) { return mlxterp_batch_from_arrays(get(), raw.data(), raw.size(), out); }));
    }

    // Running it.

    /// Starts a forward pass. Nothing is computed yet.
    class trace trace(const class batch &prompts, const trace_options &wanted = {}) const {
        std::vector<const char *> patterns;
        std::vector<const mlxterp_intervention *> changes;
        for (const auto &[pattern, change] : wanted.interventions) {
            patterns.push_back(pattern.c_str());
            changes.push_back(change->get());
        }
        mlxterp_trace_options options;
        detail::check(mlxterp_trace_options_init(&options));
        options.patterns = patterns.data();
        options.interventions = changes.data();
        options.intervention_count = patterns.size();
        options.keep_all = wanted.keep_all ? 1 : 0;
        options.strict = wanted.strict ? 1 : 0;
        options.cache = wanted.after == nullptr ? nullptr : wanted.after->get();
        return mlxterp::trace(detail::made<mlxterp_trace>(
            [&](auto out) { return mlxterp_trace_start(get(), prompts.get(), &options, out); }));
    }
    class trace trace(const std::string &text, const trace_options &wanted = {}) const {
        return trace(batch(std::vector<std::string>{text}), wanted);
    }
    /// Logits [row, position, vocabulary] of a plain forward, lazily.
    array forward(const class batch &prompts) const {
        return array(
            detail::made<mlxterp_array>([&](auto out) { return mlxterp_model_forward(get(), prompts.get(), out); }));
    }

    /// For calls of the C interface; still owned here.
    mlxterp_model *get() const noexcept { return raw_.get(); }

private:
    template <class Load>
    static model with_options(const load_options &wanted, Load load) {
        if (mlxterp_abi_version() != MLXTERP_ABI_VERSION) {
            throw error(MLXTERP_STATUS_UNSUPPORTED,
                        "the library has binary interface " + std::to_string(mlxterp_abi_version()) +
                            ", this program was compiled for " + std::to_string(MLXTERP_ABI_VERSION) +
                            ": use header and library of the same release",
                        {});
        }
        auto text = [](const std::optional<std::string> &given) { return given ? given->c_str() : nullptr; };
        std::vector<const char *> names;
        std::vector<const mlxterp_opaque *> opaques;
        for (const auto &[name, function] : wanted.opaques) {
            names.push_back(name.c_str());
            opaques.push_back(function->get());
        }
        mlxterp_model_options options;
        detail::check(mlxterp_model_options_init(&options));
        options.dtype = text(wanted.dtype);
        options.keep_quantised = wanted.keep_quantised ? (*wanted.keep_quantised ? 1 : 0) : -1;
        options.offline = wanted.offline ? 1 : 0;
        options.description = text(wanted.description);
        options.revision = text(wanted.revision);
        options.token = text(wanted.token);
        options.cache_dir = text(wanted.cache_dir);
        options.opaque_names = names.data();
        options.opaques = opaques.data();
        options.opaque_count = names.size();
        if (wanted.progress) {
            options.progress = tell;
            options.progress_user = const_cast<load_options *>(&wanted);
        }
        return model(detail::made<mlxterp_model>([&](auto out) { return load(&options, out); }));
    }

    static int32_t tell(void *user, const char *stage, std::uint64_t done, std::uint64_t total) noexcept {
        try {
            return static_cast<const load_options *>(user)->progress(stage, done, total) ? 0 : 1;
        } catch (...) {
            return detail::hold_exception();
        }
    }

    detail::handle<mlxterp_model, mlxterp_model_free> raw_;
};

}  // namespace mlxterp
