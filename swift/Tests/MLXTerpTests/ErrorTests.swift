import XCTest

@testable import MLXTerp

private struct Mine: Error, Equatable {
    let number: Int
}

final class ErrorTests: HandleTests {
    func testAnErrorNamesTheSiteAndTheWayOut() throws {
        let trace = try tiny().trace(tokens)
        let error = assertThrows(.unknownSite, try trace.read("layers.99.mlp"))
        XCTAssertEqual(error?.site, "layers.99.mlp")
        XCTAssertTrue(error?.message.contains("did you mean 'layers.1.mlp'?") ?? false, error?.message ?? "")
        XCTAssertEqual(error?.localizedDescription, error?.message)
        assertThrows(.unknownSite, try trace.layers[99].mlp.output)
        assertThrows(.notFound, try InterpretableModel("/nowhere/at/all"))
        XCTAssertEqual(assertThrows(.unknownSite, try trace.intervene("layers.*.nothing", .zeroOut))?.site, "layers.*.nothing")
    }

    func testAnErrorOfAnAssignmentEndsTheBlock() throws {
        let model = try tiny()
        let wrong = try Tensor([Float](repeating: 0, count: 5))
        var after = false
        let error = assertThrows(
            .shape,
            try model.trace(tokens) { t in
                t.layers[0].mlp.output = wrong
                after = true
            })
        XCTAssertTrue(after, "an assignment does not stop the block by itself")
        XCTAssertEqual(error?.site, "layers.0.mlp.output")
        // Nothing is computed as if it had worked.
        let trace = try model.trace(tokens)
        trace.layers[0].mlp.output = wrong
        assertThrows(.shape, try trace.output)
        assertThrows(.shape, try trace.receipts())
        assertThrows(.shape, try trace.fork())
    }

    func testAStaleWriteIsRefused() throws {
        let model = try tiny()
        let trace = try model.trace(tokens)
        _ = try trace.layers[1].output
        trace.layers[0].output = 0
        let error = assertThrows(.staleWrite, try trace.finish())
        XCTAssertTrue(error?.message.contains("write first, or fork") ?? false)
    }

    func testAStrictTraceRefusesAnIdleWrite() throws {
        let model = try tiny()
        assertThrows(
            .strict, try model.trace(tokens, strict: true) { t in
                t.layers[0].mlp.output *= 1
                _ = try t.output
            })
    }

    func testAHooksErrorComesBackAsItself() throws {
        let model = try tiny()
        let failing = Intervention.custom("failing") { _ in throw Mine(number: 7) }
        XCTAssertThrowsError(
            try model.trace(tokens) { t in
                try t.intervene("layers.0.attn", failing)
                _ = try t.output
            }
        ) { XCTAssertEqual($0 as? Mine, Mine(number: 7)) }
        // The model goes on.
        XCTAssertEqual(try model.trace(tokens).output.shape, [1, 4, 64])
    }

    func testAHookSeesAndChanges() throws {
        let model = try tiny()
        let seen = Log()
        let halve = Intervention.custom("halve") { value, event in
            seen.add("\(event.site) \(event.step) \(event.lengths) \(value.shape)")
            return try value * 0.5
        }
        let hooked = try model.trace(tokens, interventions: ["layers.0.attn": halve]).output.array(of: Float.self)
        let scaled = try model.trace(tokens, interventions: ["layers.0.attn": .scale(0.5)]).output.array(of: Float.self)
        XCTAssertEqual(hooked, scaled)
        XCTAssertEqual(seen.lines, ["layers.0.attn.output 0 [4] [1, 4, 24]"])
        let watching = Intervention.custom("watch") { _ in nil }
        let plain = try model.trace(tokens).output.array(of: Float.self)
        XCTAssertEqual(try model.trace(tokens, interventions: ["layers.0": watching]).output.array(of: Float.self), plain)
    }

    func testAHookIsLetGoOf() throws {
        let model = try tiny()
        weak var held: Log?
        do {
            let log = Log()
            held = log
            let hook = Intervention.custom("log") { _ in
                log.add("called")
                return nil
            }
            _ = try model.trace(tokens, interventions: ["layers.0": hook]).output.eval()
            XCTAssertEqual(log.lines, ["called"])
        }
        XCTAssertNil(held)
    }

    func testInterventionsAreValues() throws {
        let one = Intervention.scale(0.5).heads(2).positions(-1)
        XCTAssertEqual(one, try Intervention(json: one.json()))
        XCTAssertNotEqual(one, .scale(0.5))
        XCTAssertEqual(one.description, "scale(0.5) heads=[2] positions=[-1]")
        let copy = try JSONDecoder().decode([Intervention].self, from: JSONEncoder().encode([one]))
        XCTAssertEqual(copy, [one])
        XCTAssertEqual(try Intervention(json: "clamp(-1, 1)"), .clamp(-1...1))
        let both = Intervention.compose([.zeroOut, .noise(std: 1, seed: 3)])
        XCTAssertTrue(both.description.hasPrefix("compose("))
        // A mistake waits for the first use.
        let wrong = Intervention.scale(.infinity)
        assertThrows(.invalidArgument, try tiny().trace(tokens, interventions: ["layers.0": wrong]).output)
        assertThrows(.unsupported, try Intervention.custom("x") { _ in nil }.json())
    }

    func testALoadTellsAndCanBeCancelled() throws {
        let seen = Log()
        _ = try InterpretableModel(root.appendingPathComponent("tests/fixtures/tiny/llama").path) { progress in
            seen.add(progress.stage.rawValue)
            XCTAssertLessThanOrEqual(progress.done, progress.total)
        }
        XCTAssertTrue(seen.lines.contains("load"))
        XCTAssertThrowsError(
            try InterpretableModel(root.appendingPathComponent("tests/fixtures/tiny/llama").path) { _ in
                throw Mine(number: 1)
            }
        ) { XCTAssertEqual($0 as? Mine, Mine(number: 1)) }
    }

    func testACancelledTaskCancelsItsLoad() async throws {
        let path = root.appendingPathComponent("tests/fixtures/tiny/llama").path
        let model = try await InterpretableModel.load(path)
        XCTAssertEqual(model.layerCount, 2)
        let task = Task {
            while !Task.isCancelled { await Task.yield() }
            return try await InterpretableModel.load(path)
        }
        task.cancel()
        do {
            _ = try await task.value
            XCTFail("nothing was thrown")
        } catch is CancellationError {
        }
    }
}

/// Lines from any thread.
final class Log: @unchecked Sendable {
    private let lock = NSLock()
    private var all: [String] = []
    var lines: [String] { lock.withLock { all } }
    func add(_ line: String) { lock.withLock { all.append(line) } }
}
