import CMLXTerp
import Foundation

/// Any failure of the library: which kind, at which site, and a message that names the value that was wrong and the way out.
///
/// An error that a closure of yours throws while the library calls it is not wrapped: it arrives as itself.
public struct MLXTerpError: Error, Equatable, Sendable {
    /// What went wrong. Numbers are those of the C interface.
    public enum Kind: UInt32, Sendable {
        /// An argument that can never be right.
        case invalidArgument = 1
        /// A file, a directory, a tensor or a repository that is not there.
        case notFound = 2
        /// The operating system or the network refused.
        case io = 3
        /// A file whose bytes contradict themselves.
        case corrupt = 4
        /// Something this library cannot do.
        case unsupported = 5
        /// A missing or absurd value in config.json.
        case config = 6
        /// A mistake in an architecture description.
        case description = 7
        /// Two shapes that cannot meet.
        case shape = 8
        /// No site of that name.
        case unknownSite = 9
        /// A write behind a value that was already read.
        case staleWrite = 10
        /// A strict trace in which a write changed or reached nothing.
        case strict = 11
        /// A callback stopped the call.
        case callback = 12
        /// The object is in use by a call further up the stack.
        case busy = 13
        /// MLX refused or failed.
        case backend = 14
        /// The data was asked for before it was computed.
        case notEvaluated = 15
        /// A bug in the library.
        case panic = 16
        /// An expert that no token of the run was routed to.
        case notExecuted = 17
        /// A kind that is newer than this package.
        case other = 4_294_967_295
    }

    /// What went wrong.
    public let kind: Kind
    /// The value that was wrong, where it stood, and the way out.
    public let message: String
    /// The site or pattern that was asked for, where one was.
    public let site: String?

    init(_ kind: Kind, _ message: String, site: String? = nil) {
        (self.kind, self.message, self.site) = (kind, message, site)
    }
}

extension MLXTerpError: LocalizedError, CustomStringConvertible {
    /// The message.
    public var description: String { message }
    /// The message, as `localizedDescription` gives it.
    public var errorDescription: String? { message }
}

/// Throws what a status means.
@inline(__always)
func check(_ status: mlxterp_status, site: @autoclosure () -> String? = nil) throws {
    if status.rawValue != 0 {
        throw failure(status, site: site())
    }
}

/// The error of this thread's last call: a closure's own where one threw.
func failure(_ status: mlxterp_status, site: String?) -> any Error {
    let own = Pending.take()
    let kind = MLXTerpError.Kind(rawValue: UInt32(status.rawValue)) ?? .other
    if kind == .callback, let own {
        return own
    }
    return MLXTerpError(kind, String(cString: mlxterp_last_error_message()), site: site)
}

/// The error that a closure threw on this thread, on its way to the call that led there. Nothing may unwind through the
/// library, so it waits here.
enum Pending {
    private final class Box {
        let error: any Error
        init(_ error: any Error) { self.error = error }
    }

    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        let made = pthread_key_create(&key) { (held: UnsafeMutableRawPointer?) in
            if let held { Unmanaged<Box>.fromOpaque(held).release() }
        }
        precondition(made == 0, "the process has no thread-local storage left")
        return key
    }()

    static func hold(_ error: any Error) {
        _ = take()
        pthread_setspecific(key, Unmanaged.passRetained(Box(error)).toOpaque())
    }

    static func take() -> (any Error)? {
        guard let held = pthread_getspecific(key) else { return nil }
        pthread_setspecific(key, nil)
        return Unmanaged<Box>.fromOpaque(held).takeRetainedValue().error
    }
}
