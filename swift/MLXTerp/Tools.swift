import CMLXTerp
import Foundation

/// A value of an option: what JSON can say.
public enum ToolOption: Encodable, Sendable, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
    ExpressibleByFloatLiteral, ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    case text(String)
    case integer(Int)
    case number(Double)
    case flag(Bool)
    case list([ToolOption])
    case object([String: ToolOption])

    /// A text.
    public init(stringLiteral value: String) { self = .text(value) }
    /// A whole number.
    public init(integerLiteral value: Int) { self = .integer(value) }
    /// A number.
    public init(floatLiteral value: Double) { self = .number(value) }
    /// True or false.
    public init(booleanLiteral value: Bool) { self = .flag(value) }
    /// A list.
    public init(arrayLiteral elements: ToolOption...) { self = .list(elements) }
    /// An object.
    public init(dictionaryLiteral elements: (String, ToolOption)...) {
        self = .object(Dictionary(elements) { $1 })
    }

    /// As JSON says it.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .text(let value): try container.encode(value)
        case .integer(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        case .flag(let value): try container.encode(value)
        case .list(let value): try container.encode(value)
        case .object(let value): try container.encode(value)
        }
    }
}

extension InterpretableModel {
    /// Runs an analysis by name.
    ///
    /// - Parameters:
    ///   - tool: its name, such as "gradients".
    ///   - options: its own options.
    ///   - tensors: what it takes besides options.
    ///   - interventions: what every run of it is under.
    ///   - metric: what is measured.
    ///   - progress: told (done, total); an error it throws ends the analysis and is thrown here.
    public func run(
        _ tool: String, options: [String: ToolOption] = [:], tensors: KeyValuePairs<String, Tensor> = [:],
        interventions: KeyValuePairs<String, Intervention> = [:], metric: Metric? = nil,
        progress: ((UInt64, UInt64) throws -> Void)? = nil
    ) throws -> Findings {
        let tool = try checked(tool, "the tool")
        var options = options
        var measured: Measured?
        switch metric?.kind {
        case .named(let name, let tokens) where tokens.isEmpty: options["metric"] = .text(name)
        case .named(let name, let tokens): options["metric"] = .object([name: .object(tokens.mapValues(\.option))])
        case .closure(let closure): measured = Measured(self, closure)
        case nil: break
        }
        let json = String(decoding: try JSONEncoder().encode(options), as: UTF8.self)
        let changes = try interventions.map { try $0.value.get() }
        let told = progress.map(Told.init)
        var inputs = mlxterp_tool_inputs()
        try check(mlxterp_tool_inputs_init_sized(&inputs, MemoryLayout<mlxterp_tool_inputs>.size))
        return try withCTexts(tensors.map(\.key), "a tensor's name") { names in
            try withCTexts(interventions.map(\.key), "a pattern") { patterns in
                try withExtendedLifetime((changes, measured, told)) {
                    try tensors.map(\.value).withHandles { arrays, count in
                        let handles = changes.map { Optional($0.raw) }
                        return try names.withUnsafeBufferPointer { names in
                            try patterns.withUnsafeBufferPointer { patterns in
                                try handles.withUnsafeBufferPointer { handles in
                                    inputs.array_names = names.baseAddress
                                    inputs.arrays = arrays
                                    inputs.array_count = count
                                    inputs.patterns = patterns.baseAddress
                                    inputs.interventions = handles.baseAddress
                                    inputs.intervention_count = patterns.count
                                    if let measured {
                                        inputs.metric = callMetric
                                        inputs.metric_user = Unmanaged.passUnretained(measured).toOpaque()
                                    }
                                    if let told {
                                        inputs.progress = callProgress
                                        inputs.progress_user = Unmanaged.passUnretained(told).toOpaque()
                                    }
                                    return Findings(try made { mlxterp_tool_run(raw, tool, json, &inputs, $0) })
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A progress closure behind the `user` pointer.
private final class Told {
    let closure: (UInt64, UInt64) throws -> Void
    init(_ closure: @escaping (UInt64, UInt64) throws -> Void) { self.closure = closure }
}

private let callProgress: mlxterp_tool_progress_fn = { user, done, total in
    guard let user else { return 0 }
    do {
        try Unmanaged<Told>.fromOpaque(user).takeUnretainedValue().closure(done, total)
        return 0
    } catch {
        Pending.hold(error)
        return 1
    }
}
