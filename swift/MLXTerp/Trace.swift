import CMLXTerp
import Foundation

/// A forward pass over a batch: built lazily, changed anywhere, read at any time, also after its block.
///
/// Sites are members: `try trace.layers[3].attn.output` reads, `trace.layers[4].mlp.output = value` writes, and the same
/// names work as text: `try trace.read("layers.3.attn.output")`. An assignment cannot throw in Swift, so an error of one
/// is kept: the next call that can throw, or the end of the block, throws it, and nothing is read in between.
@dynamicMemberLookup
public final class Trace: @unchecked Sendable {
    let raw: OpaquePointer
    /// The model that is run.
    public let model: InterpretableModel
    /// The tokens of the trace.
    public let batch: Batch
    private let lock = NSLock()
    private var kept: (any Error)?

    init(_ raw: OpaquePointer, _ model: InterpretableModel, _ batch: Batch) {
        (self.raw, self.model, self.batch) = (raw, model, batch)
    }

    deinit { mlxterp_trace_free(raw) }

    /// The value of a site such as "layers.3.attn.output", lazily.
    public func read(_ site: String) throws -> Tensor {
        try throwKept()
        return Tensor(try made(site: site) { mlxterp_trace_read(raw, site, $0) })
    }

    /// Puts a value in a site's place. Everything after it sees the new one.
    public func write(_ site: String, _ value: Tensor) throws {
        try throwKept()
        try check(mlxterp_trace_write(raw, site, value.raw), site: site)
    }

    /// Puts a value in part of a site's place.
    public func write(_ site: String, at: any TensorSubscript..., value: Tensor) throws {
        try throwKept()
        let indices = at.map(\.tensorIndex.raw)
        try check(mlxterp_trace_write_at(raw, site, indices, indices.count, value.raw), site: site)
    }

    /// Applies an intervention to every site that a name or pattern such as "layers.*.mlp" means.
    public func intervene(_ pattern: String, _ intervention: Intervention) throws {
        try throwKept()
        let handle = try intervention.get()
        try check(mlxterp_trace_intervene(raw, pattern, handle.raw), site: pattern)
    }

    /// A second continuation that shares everything built so far. In it anything may be written.
    public func fork() throws -> Trace {
        try throwKept()
        return Trace(try made { mlxterp_trace_fork(raw, $0) }, model, batch)
    }

    /// A fork whose batch is this one's `n` times over: row `i` continues row `i % rows`.
    public func fork(rows n: Int) throws -> Trace {
        try throwKept()
        if n < 0 { throw MLXTerpError(.invalidArgument, "a fork of \(n) rows: give 1 or more") }
        let fork = try made { mlxterp_trace_fork_rows(raw, n, $0) }
        do {
            return Trace(fork, model, Batch(try made { mlxterp_trace_batch(fork, $0) }))
        } catch {
            mlxterp_trace_free(fork)
            throw error
        }
    }

    /// One a write: what it changed, and whether anything that was read depended on it.
    public func receipts() throws -> [Receipt] {
        try throwKept()
        let json = try text { mlxterp_trace_receipts_json(raw, $0) }
        return try JSONDecoder().decode([Receipt].self, from: Data(json.utf8))
    }

    /// What the model remembers after this trace's tokens, edits included; the trace must have been given a cache.
    public func cache() throws -> Cache {
        try throwKept()
        return Cache(try made { mlxterp_trace_cache(raw, $0) })
    }

    /// Ends the block: throws what an assignment could not, and refuses a strict trace's idle writes. Values can still be
    /// read afterwards.
    public func finish() throws {
        try throwKept()
        try check(mlxterp_trace_finish(raw))
    }

    /// Does what an assignment asks for. Its error waits for ``throwKept()``; behind an error nothing more is done.
    func assign(_ work: () throws -> Void) {
        do {
            try throwKept()
            try work()
        } catch {
            lock.withLock { kept = kept ?? error }
        }
    }

    /// Throws the error of an assignment: again and again, for what follows would be computed without it.
    func throwKept() throws {
        if let kept = lock.withLock({ kept }) { throw kept }
    }
}
