extension InterpretableModel {
    /// Probes of a label a text, by layer and position; each text runs once.
    ///
    /// - Parameter options: `layers`, `site`, `positions`, `kind`, `l2`, `validation`, `folds`, `control`, `seed`, `save`, …;
    ///   see the guide.
    public func probe(texts: [String], labels: [Double], options: [String: ToolOption] = [:]) throws -> Findings {
        var all = options
        all["texts"] = .list(texts.map { .text($0) })
        all["labels"] = .list(labels.map { .number($0) })
        return try run("probe", options: all)
    }

    /// What probes from a file say of texts: the tensor "scores" [probe, text].
    public func askProbes(file: String, texts: [String]) throws -> Findings {
        try run("probe", options: ["load": .text(file), "texts": .list(texts.map { .text($0) })])
    }
}
