extension InterpretableModel {
    /// What a value of the clean run does in the corrupted one, place by place; `component` is resid_pre, resid_mid,
    /// resid_post, attn, mlp, q, k, v, z, pattern or neuron. Tensors "raw" and "normalised" (0 = corrupted, 1 = clean), shaped
    /// by the axes. `more` holds further options, such as "direction" or "layers".
    public func activationPatching(
        clean: ToolOption, corrupt: ToolOption, metric: Metric, component: String = "resid_pre", axes: [String]? = nil,
        more: [String: ToolOption] = [:], progress: ((UInt64, UInt64) throws -> Void)? = nil
    ) throws -> Findings {
        var options = more
        options["clean"] = clean
        options["corrupt"] = corrupt
        options["component"] = .text(component)
        options["axes"] = axes.map { .list($0.map { .text($0) }) }
        return try run("activation_patching", options: options, metric: metric, progress: progress)
    }

    /// Which clean states bring the answer back after noise on the subject, words of the prompt: Meng et al. 2022.
    /// Tensors "restored" and "effect", of shape [layer, position].
    public func causalTracing(
        _ prompt: ToolOption, subject: ToolOption, answer: ToolOption? = nil, component: String = "resid_post",
        more: [String: ToolOption] = [:], progress: ((UInt64, UInt64) throws -> Void)? = nil
    ) throws -> Findings {
        var options = more
        options["prompt"] = prompt
        options["subject"] = subject
        options["answer"] = answer
        options["component"] = .text(component)
        return try run("causal_tracing", options: options, progress: progress)
    }

    /// What each head (or MLP, with `senders` "mlp") tells the receivers directly: Wang et al. 2022. A receiver is
    /// ["input": "q", "layer": 9, "head": 6], ["input": "mlp", "layer": 9] or ["input": "logits"]. Tensors "raw" and
    /// "normalised" (1 = clean, 0 = corrupted), of shape [layer, head].
    public func pathPatching(
        clean: ToolOption, corrupt: ToolOption, metric: Metric, receivers: ToolOption = [["input": "logits"]],
        senders: String = "heads", more: [String: ToolOption] = [:], progress: ((UInt64, UInt64) throws -> Void)? = nil
    ) throws -> Findings {
        var options = more
        options["clean"] = clean
        options["corrupt"] = corrupt
        options["receivers"] = receivers
        options["senders"] = .text(senders)
        return try run("path_patching", options: options, metric: metric, progress: progress)
    }
}
