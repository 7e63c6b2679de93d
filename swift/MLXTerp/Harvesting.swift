extension InterpretableModel {
    /// Writes the activations of sites over a data set to a folder. Call it again to go on after an end at any moment.
    ///
    /// - Parameters:
    ///   - data: a .txt file, a text a line, or .jsonl.
    ///   - options: `key`, `dtype`, `max_tokens`, `long`, `skip_special`, `batch_size`, `window`, `shard_vectors`; see the guide.
    ///   - progress: told the number of documents done.
    public func harvest(
        data: String, to folder: String, sites: [String], options: [String: ToolOption] = [:],
        progress: ((UInt64) throws -> Void)? = nil
    ) throws -> Findings {
        var all = options
        all["data"] = .text(data)
        all["out"] = .text(folder)
        all["sites"] = .list(sites.map { .text($0) })
        return try run("harvest", options: all, progress: progress.map { told in { done, _ in try told(done) } })
    }

    /// A shard of a harvest: a tensor a site, and "tokens", "documents" and "positions".
    public func harvested(_ folder: String, shard: Int) throws -> Findings {
        try run("harvest", options: ["out": .text(folder), "shard": .integer(shard)])
    }
}
