extension InterpretableModel {
    /// A metric attributed to the values of a site, from a baseline (zeros, or prompts of as many tokens): integrated
    /// gradients, Sundararajan et al. 2017. Tensor "attributions", of the site's shape.
    public func integratedGradients(
        _ prompts: ToolOption, metric: Metric, site: String = "embed", baseline: ToolOption? = nil, steps: Int = 32
    ) throws -> Findings {
        var options: [String: ToolOption] = ["prompts": prompts, "site": .text(site), "steps": .integer(steps)]
        options["baseline"] = baseline.map { .object(["prompts": $0]) }
        return try run("integrated_gradients", options: options, metric: metric)
    }

    /// What each layer, head and neuron's clean value would change in the corrupt run, to first order: Nanda 2023.
    public func attributionPatching(
        clean: ToolOption, corrupt: ToolOption, metric: Metric, components: [String] = []
    ) throws -> Findings {
        let parts = ToolOption.list(components.map { .text($0) })
        let options: [String: ToolOption] = ["clean": clean, "corrupt": corrupt, "components": parts]
        return try run("attribution_patching", options: options, metric: metric)
    }

    /// What corrupting each edge of the model's graph would change; `method` is "eap", "eap_ig" or "exact". Tensor "scores",
    /// of shape [sender, receiver]; the circuit of the `edges` largest stands under "circuit".
    public func edgeAttribution(
        clean: ToolOption, corrupt: ToolOption, metric: Metric, method: String = "eap_ig", edges: Int = 50
    ) throws -> Findings {
        let options: [String: ToolOption] = [
            "clean": clean, "corrupt": corrupt, "method": .text(method), "edges": .integer(edges),
        ]
        return try run("edge_attribution", options: options, metric: metric)
    }

    /// The edges left when each is cut that costs less than a threshold: Conmy et al. 2023. They stand under "circuit".
    public func acdc(
        clean: ToolOption, corrupt: ToolOption, metric: Metric = .klDivergence, threshold: Double = 0.01,
        ablation: String = "resample"
    ) throws -> Findings {
        let options: [String: ToolOption] = [
            "clean": clean, "corrupt": corrupt, "threshold": .number(threshold), "ablation": .text(ablation),
        ]
        return try run("acdc", options: options, metric: metric)
    }

    /// A circuit, as findings have it under "circuit", measured: faithfulness and completeness stand under "evaluation".
    public func circuit(
        _ circuit: ToolOption, clean: ToolOption, corrupt: ToolOption, metric: Metric, largest: Int? = nil,
        ablation: String = "resample"
    ) throws -> Findings {
        var options: [String: ToolOption] = [
            "circuit": circuit, "clean": clean, "corrupt": corrupt, "ablation": .text(ablation),
        ]
        options["largest"] = largest.map { .integer($0) }
        return try run("circuit", options: options, metric: metric)
    }
}
