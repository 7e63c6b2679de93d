import CMLXTerp
import Foundation

/// Models of your own: a description in the architecture language, with tensors you have or files you name.
extension InterpretableModel {
    /// A model from a description, a config, and tensors under the names that the description knows.
    ///
    /// The tensors are used as they are and shared, unless ``LoadOptions/dtype`` asks for another dtype.
    ///
    /// - Parameters:
    ///   - description: the text of a description, or the name of a shipped one.
    ///   - weights: the tensors.
    ///   - config: what the description asks for, as config.json would say it.
    ///   - options: the dtype, whether quantised weights stay packed, and opaque modules.
    public convenience init(
        description: String, weights: [String: Tensor], config: some Encodable, options: LoadOptions = LoadOptions()
    ) throws {
        try Library.checkVersion()
        let (description, config) = (try checked(description, "the description"), try Self.json(config))
        let entries = weights.sorted { $0.key < $1.key }
        let raw = try options.withC(progress: nil) { options in
            try withCTexts(entries.map(\.key), "a tensor's name") { names in
                try made { out in
                    entries.map(\.value).withHandles {
                        mlxterp_model_from_weights(description, config, names, $0, $1, options, out)
                    }
                }
            }
        }
        self.init(raw: raw)
    }

    /// A model from a description, a config, and `.safetensors` files or directories of them.
    public convenience init(
        description: String, files: [String], config: some Encodable, options: LoadOptions = LoadOptions()
    ) throws {
        try Library.checkVersion()
        let (description, config) = (try checked(description, "the description"), try Self.json(config))
        let raw = try options.withC(progress: nil) { options in
            try withCTexts(files, "a path") { paths in
                try made { mlxterp_model_from_files(description, config, paths, paths.count, options, $0) }
            }
        }
        self.init(raw: raw)
    }

    private static func json(_ config: some Encodable) throws -> String {
        String(decoding: try JSONEncoder().encode(config), as: UTF8.self)
    }
}

/// What the closure of an opaque module may know besides its inputs.
public struct OpaqueCall: Sendable {
    /// Path of the module.
    public let path: String
    /// How many values the description wants back.
    public let outputCount: Int
    /// Positions of each row that are no padding.
    public let lengths: [Int]
}

/// A closure that computes a module which a description calls opaque: `router: opaque(outputs=2)`.
///
/// It may be called again for the same run, and must depend on nothing but its inputs. What it throws, the call that led
/// to it throws.
public final class OpaqueModule: @unchecked Sendable {
    /// Inputs to outputs.
    public typealias Function = @Sendable ([Tensor], OpaqueCall) throws -> [Tensor]

    let raw: OpaquePointer

    /// A module that a closure computes.
    public init(_ function: @escaping Function) throws {
        let held = Unmanaged.passRetained(Box(function)).toOpaque()
        raw = try made { mlxterp_opaque_new(callOpaque, held, forgetOpaque, $0) }
    }

    deinit { mlxterp_opaque_free(raw) }

    fileprivate final class Box: Sendable {
        let function: Function
        init(_ function: @escaping Function) { self.function = function }
    }
}

private let callOpaque: mlxterp_opaque_fn = { user, call, outputs in
    guard let user, let call = call?.pointee, let outputs else { return Int32(mlxterp_status.MLXTERP_STATUS_PANIC.rawValue) }
    do {
        let box = Unmanaged<OpaqueModule.Box>.fromOpaque(user).takeUnretainedValue()
        let inputs = (0..<call.input_count).compactMap { mlxterp_array_retain(call.inputs[$0]).map { Tensor($0) } }
        let path = call.path.map { String(cString: $0) } ?? ""
        let lengths = call.lengths.map { lengths in (0..<call.rows).map { lengths[$0] } } ?? []
        let made = try box.function(inputs, OpaqueCall(path: path, outputCount: call.output_count, lengths: lengths))
        if made.count != call.output_count {
            throw MLXTerpError(
                .callback, "the closure of '\(path)' gave \(made.count) values, the description wants \(call.output_count)",
                site: path)
        }
        for (place, tensor) in made.enumerated() {
            outputs[place] = mlxterp_array_retain(tensor.raw)
        }
        return 0
    } catch {
        Pending.hold(error)
        return Int32(mlxterp_status.MLXTERP_STATUS_CALLBACK.rawValue)
    }
}

private let forgetOpaque: mlxterp_destroy_fn = { user in
    if let user {
        Unmanaged<OpaqueModule.Box>.fromOpaque(user).release()
    }
}

extension Tensor: PromptElement {
    /// What a model of your own takes, in the order of its `Main`: rows along the first axis.
    public static func batch(of tensors: [Tensor], for model: InterpretableModel) throws -> Batch {
        Batch(try made { out in tensors.withHandles { mlxterp_batch_from_arrays(model.raw, $0, $1, out) } })
    }
}
