/// What a lens reads of each layer.
public enum LensComponent: String, Sendable {
    /// The residual stream before, within and after a layer.
    case residPre = "resid_pre", residMid = "resid_mid", residPost = "resid_post"
    /// What attention or the MLP adds to it.
    case attn, mlp
}

/// What colours a lens' figure.
public enum LensShade: String, Sendable {
    case probability, entropy, kl, rank
}

extension InterpretableModel {
    /// What the model would say if it stopped after each layer, at every position.
    ///
    /// - Parameters:
    ///   - prompts: text, or lists of token ids.
    ///   - layers, positions: all of them by default; negative from the end.
    ///   - top: how many of the likeliest tokens in each cell.
    ///   - targets: tokens whose probability and rank to tell.
    ///   - embedding: whether the embedding is a row of its own, layer -1.
    public func logitLens(
        _ prompts: ToolOption, component: LensComponent = .residPost, layers: [Int]? = nil, positions: [Int]? = nil,
        top: Int = 5, targets: [Metric.Token] = [], embedding: Bool = true, shade: LensShade = .probability
    ) throws -> Findings {
        try run(
            "logit_lens",
            options: lensOptions(prompts, component, layers, positions, top, targets, embedding, shade))
    }

    /// A logit, or the difference of two, as the sum of what every part of the model put into it.
    ///
    /// - Parameters:
    ///   - answer: the token; the likeliest by default.
    ///   - wrong: a token whose logit is subtracted.
    ///   - linearised: take the final norm by its gradient instead of with the scale of this run.
    ///   - heads: tell attention apart by heads.
    ///   - neurons: how many of the largest neurons to name; 0: MLPs are not told apart.
    public func directLogitAttribution(
        _ prompts: ToolOption, answer: Metric.Token? = nil, wrong: Metric.Token? = nil, position: Int = -1,
        linearised: Bool = false, heads: Bool = false, neurons: Int = 0
    ) throws -> Findings {
        var options: [String: ToolOption] = [
            "prompts": prompts, "position": .integer(position), "heads": .flag(heads), "neurons": .integer(neurons),
            "norm": linearised ? "linearised" : "frozen",
        ]
        options["answer"] = answer?.option
        options["wrong"] = wrong?.option
        return try run("direct_logit_attribution", options: options)
    }
}

func lensOptions(
    _ prompts: ToolOption, _ component: LensComponent, _ layers: [Int]?, _ positions: [Int]?, _ top: Int,
    _ targets: [Metric.Token], _ embedding: Bool, _ shade: LensShade
) -> [String: ToolOption] {
    var options: [String: ToolOption] = [
        "prompts": prompts, "component": .text(component.rawValue), "top": .integer(top),
        "targets": .list(targets.map(\.option)), "embedding": .flag(embedding), "shade": .text(shade.rawValue),
    ]
    options["layers"] = layers.map { .list($0.map(ToolOption.integer)) }
    options["positions"] = positions.map { .list($0.map(ToolOption.integer)) }
    return options
}
