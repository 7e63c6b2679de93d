import CMLXTerp
import Foundation

/// What an analysis found: prints, decodes, draws itself, and hands its tensors on.
public final class Findings: @unchecked Sendable {
    let raw: OpaquePointer

    init(_ raw: OpaquePointer) { self.raw = raw }

    deinit { mlxterp_result_free(raw) }

    /// Which analysis made it, such as "logit_lens".
    public func kind() throws -> String { try text { mlxterp_result_kind(raw, $0) } }

    /// All of it as JSON, axes by name.
    public func json() throws -> String { try text { mlxterp_result_json(raw, $0) } }

    /// A fragment of HTML with its own styles, without script or request.
    public func html() throws -> String { try text { mlxterp_result_html(raw, $0) } }

    /// All of it, or a part, as a type of yours.
    public func decode<T: Decodable>(_ type: T.Type = T.self) throws -> T {
        try JSONDecoder().decode(type, from: Data(try json().utf8))
    }

    /// Names of its tensors.
    public func tensorNames() throws -> [String] {
        let json = try text { mlxterp_result_array_names_json(raw, $0) }
        return try JSONDecoder().decode([String].self, from: Data(json.utf8))
    }

    /// One of its tensors by name.
    public func tensor(_ name: String) throws -> Tensor {
        let name = try checked(name, "the name")
        return Tensor(try made { mlxterp_result_array(raw, name, $0) })
    }
}

extension Findings: CustomStringConvertible {
    /// In words and tables.
    public var description: String { (try? text { mlxterp_result_text(raw, $0) }) ?? "Findings" }
}

/// Numbers with named axes, as findings hold them.
public struct Grid: Codable, Equatable, Sendable {
    /// One axis: its name and a label for each place.
    public struct Axis: Codable, Equatable, Sendable {
        /// "layer", "position", "head", …
        public let name: String
        /// One a place.
        public let labels: [String]
    }

    /// The axes, outermost first.
    public let axes: [Axis]
    /// The numbers in row-major order; `nil` where there is none.
    public let values: [Float?]
}
