import Foundation
import XCTest

@testable import MLXTerp

/// A thousand traces leave nothing behind: the steps of the tour on a tiny model, as `tests/leaks.rs` takes them in C, C++
/// and Python.
final class LeakTests: XCTestCase {
    private struct EveryOtherTime: Error {}

    /// Two traces: one, and its fork.
    private func tour(_ model: InterpretableModel, _ turn: Int) throws {
        // Read, and write what was read, changed, at one position.
        let trace = try model.trace(tokens)
        let part = try trace.layers[0].attn.output[positions: -1]
        trace.layers[0].attn.output[positions: -1] += part
        try trace.output.eval()

        // Another continuation, with an intervention and a hook; every other hook throws.
        let fork = try trace.fork()
        try fork.intervene("layers.1.mlp", Intervention.zeroOut.positions(-1))
        let hook = Intervention.custom("hook") { value in
            if turn % 2 == 0 { throw EveryOtherTime() }
            return try value * 0.5
        }
        do {
            try fork.intervene("layers.1.attn.pattern", hook)
            try fork.output.eval()
            XCTAssertEqual(turn % 2, 1)
        } catch is EveryOtherTime {
            XCTAssertEqual(turn % 2, 0)
        }

        // Mistakes.
        assertThrows(.unknownSite, try trace.read("layers.99.mlp"))
        assertThrows(.staleWrite, try trace.write("layers.0.mlp.output", part))
    }

    func testAThousandTracesLeaveNothing() throws {
        let before = Library.liveHandles
        var (held, resident) = ([Int](), [Int]())
        try {
            let model = try tiny()
            for n in 1...500 {
                try tour(model, n)
                if n == 100 || n == 500 {
                    held.append(Library.memoryUsed)
                    resident.append(residentKilobytes())
                }
            }
        }()
        XCTAssertEqual(Library.liveHandles, before)
        XCTAssertEqual(held[0], held[1])
        XCTAssertLessThanOrEqual(resident[1], resident[0] + 1024, "resident memory grew: \(resident) kB")
    }

    /// 0 where there is no /proc.
    private func residentKilobytes() -> Int {
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") } ?? ""
        return Int(line.filter(\.isNumber)) ?? 0
    }
}
