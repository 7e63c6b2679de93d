import Foundation

/// A named value of a model.
public struct SiteInfo: Decodable, Sendable, Hashable {
    /// Full path.
    public let name: String
    /// The short name that is the same on every architecture, where it has one.
    public let standard: String?
    /// What each axis means: "row", "position", "head", "expert", "feature", "key"; empty where axes have no meaning of their own.
    public let axes: [String]
    /// Made only when somebody asks.
    public let onTouch: Bool
    /// What the compiled description proves of the name; `nil` when it rests on the description's word.
    public let verified: String?
    /// Whether it may be changed.
    public let writable: Bool
    /// Whether gradients of the output reach it.
    public let differentiable: Bool

    enum CodingKeys: String, CodingKey {
        case name, standard, axes, verified, writable, differentiable
        case onTouch = "on_touch"
    }
}

/// A named value as it would be for some input.
public struct PlannedSite: Decodable, Sendable, Hashable {
    /// Full path.
    public let name: String
    /// The short name that is the same on every architecture, where it has one.
    public let standard: String?
    /// Length of each axis.
    public let shape: [Int]
    /// Name of the element type.
    public let dtype: String
    /// Made only when somebody asks.
    public let onTouch: Bool

    enum CodingKeys: String, CodingKey {
        case name, standard, shape, dtype
        case onTouch = "on_touch"
    }
}

/// What one write changed, and whether it mattered.
public struct Receipt: Decodable, Sendable, Hashable {
    /// Full name of the site.
    public let site: String
    /// What was written: "value" or the intervention in words.
    public let change: String
    /// Generation step; 0 in a plain forward.
    public let step: Int
    /// Rows and positions at which anything changed.
    public let rows, positions: [Int]
    /// Euclidean norm of new minus old; `nil` where it is no number.
    public let changeNorm: Double?
    /// Whether any value that was read depends on the site.
    public let reached: Bool

    enum CodingKeys: String, CodingKey {
        case site, change, step, rows, positions, reached
        case changeNorm = "change_norm"
    }
}
