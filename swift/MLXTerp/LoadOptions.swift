import CMLXTerp

/// How a model is loaded. Leave out what should be as usual.
public struct LoadOptions: Sendable {
    /// The dtype to compute in, such as "float32"; by default float32 on the CPU backend, else the checkpoint's own.
    public var dtype: String?
    /// Whether quantised weights stay packed; by default what is faster on the backend.
    public var keepQuantised: Bool?
    /// Never touches the network.
    public var offline: Bool
    /// An architecture description: the name of a shipped one, or the text of a new one.
    public var description: String?
    /// Branch, tag or commit of a Hugging Face repository.
    public var revision: String?
    /// Access token of the Hugging Face hub.
    public var token: String?
    /// Cache folder of the hub.
    public var cacheDirectory: String?
    /// Who computes the opaque modules of the description, by path, pattern or name.
    public var opaque: [(String, OpaqueModule)]

    /// The usual ones, and what differs from them.
    public init(
        dtype: String? = nil, keepQuantised: Bool? = nil, offline: Bool = false, description: String? = nil,
        revision: String? = nil, token: String? = nil, cacheDirectory: String? = nil,
        opaque: [(String, OpaqueModule)] = []
    ) {
        self.dtype = dtype
        self.keepQuantised = keepQuantised
        self.offline = offline
        self.description = description
        self.revision = revision
        self.token = token
        self.cacheDirectory = cacheDirectory
        self.opaque = opaque
    }

    /// Calls with the options of the C interface, alive during the call.
    func withC<R>(
        progress: LoadProgress.Handler?, _ body: (UnsafePointer<mlxterp_model_options>) throws -> R
    ) throws -> R {
        let given = [dtype, description, revision, token, cacheDirectory]
        let names = opaque.map(\.0)
        return try withCTexts(given.compactMap(\.self) + names, "an option") { texts in
            var rest = texts[...]
            let pointers = given.map { $0 == nil ? nil : rest.removeFirst() }
            let functions = opaque.map { Optional($0.1.raw) }
            return try Array(rest).withUnsafeBufferPointer { names in
                try functions.withUnsafeBufferPointer { functions in
                    try withExtendedLifetime(opaque) {
                        try withC(pointers, names, functions, progress, body)
                    }
                }
            }
        }
    }

    private func withC<R>(
        _ pointers: [UnsafePointer<CChar>?], _ names: UnsafeBufferPointer<UnsafePointer<CChar>?>,
        _ functions: UnsafeBufferPointer<OpaquePointer?>, _ progress: LoadProgress.Handler?,
        _ body: (UnsafePointer<mlxterp_model_options>) throws -> R
    ) throws -> R {
        var options = mlxterp_model_options()
        try check(mlxterp_model_options_init_sized(&options, MemoryLayout<mlxterp_model_options>.size))
        options.dtype = pointers[0]
        options.description = pointers[1]
        options.revision = pointers[2]
        options.token = pointers[3]
        options.cache_dir = pointers[4]
        options.keep_quantised = keepQuantised.map { $0 ? 1 : 0 } ?? -1
        options.offline = offline ? 1 : 0
        options.opaque_names = names.baseAddress
        options.opaques = functions.baseAddress
        options.opaque_count = functions.count
        guard let progress else { return try body(&options) }
        let told = LoadProgress.Told(progress)
        options.progress = LoadProgress.tell
        options.progress_user = Unmanaged.passUnretained(told).toOpaque()
        do {
            return try withExtendedLifetime(told) { try body(&options) }
        } catch {
            throw told.error ?? error
        }
    }
}

/// How far a load has come.
public struct LoadProgress: Sendable, Equatable {
    /// Told of progress; an error it throws cancels the load.
    public typealias Handler = @Sendable (LoadProgress) throws -> Void

    /// What is being done.
    public enum Stage: String, Sendable {
        /// Files come from the hub.
        case download
        /// Files become tensors.
        case load
    }

    /// What is being done.
    public let stage: Stage
    /// Bytes done, and in all.
    public let done, total: UInt64

    /// From 0 to 1.
    public var fraction: Double { total == 0 ? 0 : Double(done) / Double(total) }

    /// A handler and the error it threw, which may be on another thread than the load's.
    final class Told {
        let handler: Handler
        var error: (any Error)?
        init(_ handler: @escaping Handler) { self.handler = handler }
    }

    static let tell: mlxterp_progress_fn = { user, stage, done, total in
        guard let user, let stage else { return 1 }
        let told = Unmanaged<Told>.fromOpaque(user).takeUnretainedValue()
        guard let stage = Stage(rawValue: String(cString: stage)) else { return 0 }
        do {
            try told.handler(LoadProgress(stage: stage, done: done, total: total))
            return 0
        } catch {
            told.error = error
            return 1
        }
    }
}
