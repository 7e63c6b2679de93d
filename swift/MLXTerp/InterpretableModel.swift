import CMLXTerp
import Foundation

/// A language model whose every module's input and output has a name, can be read and can be changed.
///
/// Safe to use from several tasks: their results are those of one after another.
public final class InterpretableModel: @unchecked Sendable {
    let raw: OpaquePointer
    private let cached = Cached()

    /// Takes a handle over.
    init(raw: OpaquePointer) { self.raw = raw }

    deinit { mlxterp_model_free(raw) }

    /// Loads a directory in mlx-lm's layout, a `.gguf` file, or a Hugging Face id. Never runs code from it.
    ///
    /// - Parameters:
    ///   - source: where the model is.
    ///   - options: how it is loaded.
    ///   - progress: told how far the load has come. An error it throws cancels the load and is thrown here.
    public init(
        _ source: String, options: LoadOptions = LoadOptions(), progress: LoadProgress.Handler? = nil
    ) throws {
        try Library.checkVersion()
        let source = try checked(source, "the source")
        raw = try options.withC(progress: progress) { options in
            try made { mlxterp_model_load(source, options, $0) }
        }
    }

    /// Loads without blocking the caller's thread. Cancelling the task cancels the load.
    public static func load(
        _ source: String, options: LoadOptions = LoadOptions(), progress: LoadProgress.Handler? = nil
    ) async throws -> InterpretableModel {
        let cancelled = Flag()
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                // A thread of its own: a load waits for disk and network, and Swift's pool should not.
                Thread.detachNewThread {
                    continuation.resume(
                        with: Result {
                            try InterpretableModel(source, options: options) { state in
                                if cancelled.isSet { throw CancellationError() }
                                try progress?(state)
                            }
                        })
                }
            }
        } onCancel: {
            cancelled.set()
        }
    }

    /// Number of layers.
    public var layerCount: Int { mlxterp_model_num_layers(raw) }

    /// Number of query heads.
    public var headCount: Int { mlxterp_model_num_heads(raw) }

    /// Width of the residual stream.
    public var hiddenSize: Int { mlxterp_model_hidden_size(raw) }

    /// How many token ids there are.
    public var vocabularySize: Int { mlxterp_model_vocab_size(raw) }

    /// The model in numbers and its module tree, as JSON.
    public func infoJSON() throws -> String { try text { mlxterp_model_info_json(raw, $0) } }

    /// The normalised config.json.
    public func configJSON() throws -> String { try text { mlxterp_model_config_json(raw, $0) } }

    /// The sites that a name or pattern such as "layers.*.mlp" means, in execution order; all without one.
    public func sites(_ pattern: String? = nil) throws -> [SiteInfo] {
        let asked = try pattern.map { try checked($0, "the pattern") }
        let json = try text(site: pattern) { mlxterp_model_sites_json(raw, asked, $0) }
        return try JSONDecoder().decode([SiteInfo].self, from: Data(json.utf8))
    }

    /// Shape and dtype of every site for prompts, without computing anything.
    public func plan(_ prompts: some Prompts) throws -> [PlannedSite] {
        let batch = try prompts.batch(for: self)
        let json = try text { mlxterp_model_plan_json(raw, batch.raw, $0) }
        return try JSONDecoder().decode([PlannedSite].self, from: Data(json.utf8))
    }

    /// The meaning of each axis of a site: "row", "position", "head", "expert", "feature", "key"; empty where they have none.
    func axes(of site: String) throws -> [String] {
        if let known = cached.axes(of: site) { return known }
        guard let axes = try sites(site).first?.axes else { return [] }
        cached.remember(axes, of: site)
        return axes
    }

    /// Starts a forward pass over prompts; the block reads and changes it. Nothing is computed yet.
    ///
    /// - Parameters:
    ///   - prompts: a text, token ids, a list of either, or a ``Batch``.
    ///   - interventions: each at a site or pattern, applied in this order.
    ///   - keepAll: keeps every value from the start; else what is read late is made by a replay.
    ///   - strict: a write that changed or reached nothing is an error at the end of the block.
    ///   - cache: what was seen before these tokens; ``Trace/cache()`` is then the state after them.
    ///   - body: the block. An error of it, or of a write in it, is thrown here.
    /// - Returns: the trace, whose sites can be read and whose ``Trace/fork()`` can be changed afterwards.
    public func trace(
        _ prompts: some Prompts, interventions: KeyValuePairs<String, Intervention> = [:], keepAll: Bool = false,
        strict: Bool = false, cache: Cache? = nil, _ body: (Trace) throws -> Void
    ) throws -> Trace {
        let trace = try trace(
            prompts, interventions: interventions, keepAll: keepAll, strict: strict, cache: cache)
        try body(trace)
        try trace.finish()
        return trace
    }

    /// Starts a forward pass over prompts, to be read and changed outside of a block.
    public func trace(
        _ prompts: some Prompts, interventions: KeyValuePairs<String, Intervention> = [:], keepAll: Bool = false,
        strict: Bool = false, cache: Cache? = nil
    ) throws -> Trace {
        let batch = try prompts.batch(for: self)
        let changes = try interventions.map { try $0.value.get() }
        return try withCTexts(interventions.map(\.key), "a pattern") { patterns in
            try withExtendedLifetime(changes) {
                let handles = changes.map { Optional($0.raw) }
                return try patterns.withUnsafeBufferPointer { patterns in
                    try handles.withUnsafeBufferPointer { handles in
                        var options = mlxterp_trace_options()
                        try check(mlxterp_trace_options_init_sized(&options, MemoryLayout<mlxterp_trace_options>.size))
                        options.patterns = patterns.baseAddress
                        options.interventions = handles.baseAddress
                        options.intervention_count = patterns.count
                        options.keep_all = keepAll ? 1 : 0
                        options.strict = strict ? 1 : 0
                        options.cache = cache?.raw
                        return Trace(try made { mlxterp_trace_start(raw, batch.raw, &options, $0) }, self, batch)
                    }
                }
            }
        }
    }

    /// The logits `[row, position, vocabulary]` of a plain forward, lazily.
    public func forward(_ prompts: some Prompts) throws -> Tensor {
        let batch = try prompts.batch(for: self)
        return Tensor(try made { mlxterp_model_forward(raw, batch.raw, $0) })
    }
}

extension InterpretableModel: CustomStringConvertible {
    /// The module tree in words.
    public var description: String {
        (try? text { mlxterp_model_describe(raw, $0) }) ?? "InterpretableModel"
    }
}

/// A flag that one thread sets and another reads.
private final class Flag: @unchecked Sendable {
    private let lock = NSLock()
    private var value = false
    var isSet: Bool { lock.withLock { value } }
    func set() { lock.withLock { value = true } }
}

/// What was asked before.
private final class Cached: @unchecked Sendable {
    private let lock = NSLock()
    private var axesOfSites: [String: [String]] = [:]
    func axes(of site: String) -> [String]? { lock.withLock { axesOfSites[site] } }
    func remember(_ axes: [String], of site: String) { lock.withLock { axesOfSites[site] = axes } }
}
