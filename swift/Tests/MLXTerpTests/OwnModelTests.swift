import XCTest

@testable import MLXTerp

private let mlp = """
    arch mlp

    Main(x):
      h = relu(up(x))
      return down(h)
    """

private let routed = """
    arch routed

    Main(x):
      router: opaque(outputs=2)
      a, b = router(x, lin(x))
      return a + b
    """

final class OwnModelTests: HandleTests {
    func testAModelOfOnesOwnTensors() throws {
        let weights = [
            "up.weight": try Tensor([1, 0, 0, 1, -1, -1] as [Float], shape: [3, 2]),
            "down.weight": try Tensor([1, 10, 100] as [Float], shape: [1, 3]),
        ]
        let model = try InterpretableModel(description: mlp, weights: weights, config: [String: Int]())
        let x = try Tensor([2, 3, -1, -4] as [Float], shape: [2, 2])
        let trace = try model.trace([x])
        XCTAssertEqual(try trace.h.array(of: Float.self), [2, 3, 0, 0, 0, 5])
        XCTAssertEqual(try trace.output.array(of: Float.self), [32, 500])
        let changed = try model.trace([x]) { t in
            t.h *= 2
        }
        XCTAssertEqual(try changed.output.array(of: Float.self), [64, 1000])
        assertThrows(.notFound, try InterpretableModel(description: mlp, weights: [:], config: [String: Int]()))
        assertThrows(
            .notFound, try InterpretableModel(description: mlp, files: ["/nowhere/at/all"], config: [String: Int]()))
    }

    func testAModuleThatAClosureComputes() throws {
        struct Mine: Error {}
        let seen = Log()
        let router = try OpaqueModule { inputs, call in
            seen.add("\(call.path) \(inputs.count) \(call.outputCount)")
            if try inputs[0].sum(axis: 0).sum(axis: 0).item(as: Float.self) > 100 { throw Mine() }
            return [try inputs[0] * 2, inputs[1]]
        }
        let weights = ["lin.weight": try Tensor([1, 0, 0, 1] as [Float], shape: [2, 2])]
        let options = LoadOptions(opaque: [("router", router)])
        let model = try InterpretableModel(
            description: routed, weights: weights, config: [String: Int](), options: options)
        let x = try Tensor([1, 2] as [Float], shape: [1, 2])
        XCTAssertEqual(try model.trace([x]).output.array(of: Float.self), [3, 6])
        XCTAssertEqual(seen.lines, ["router 2 2"])
        let large = try Tensor([100, 200] as [Float], shape: [1, 2])
        XCTAssertThrowsError(try model.trace([large]).output.eval()) { XCTAssertTrue($0 is Mine, "\($0)") }
    }
}
