import XCTest

@testable import MLXTerp

final class ToolTests: HandleTests {
    private struct Norms: Decodable {
        let gradient_norms: Grid
    }

    func testAnAnalysisByNameAndByClosureAgree() throws {
        let model = try tiny()
        let prompts: ToolOption = [3, 7, 11, 20]
        let named = try model.run(
            "gradients", options: ["prompts": prompts, "sites": ["embed"]],
            metric: .logitDifference(answer: 3, wrong: 7))
        let own = try model.run(
            "gradients", options: ["prompts": prompts, "sites": ["embed"]],
            metric: .custom { t in
                let last = try t.output[0..., -1]
                return try last[0..., 3] - last[0..., 7]
            })
        let a = try named.tensor("gradient:embed.output").array(of: Float.self)
        let b = try own.tensor("gradient:embed.output").array(of: Float.self)
        XCTAssertEqual(a.count, 4 * 24)
        for (x, y) in zip(a, b) { XCTAssertEqual(x, y, accuracy: 1e-5) }
        XCTAssertEqual(try named.kind(), "gradients")
        XCTAssertEqual(try named.decode(Norms.self).gradient_norms.axes[0].labels, ["embed.output"])
        XCTAssertTrue(try named.html().contains("embed.output"))
        XCTAssertTrue("\(named)".contains("embed.output"))
        XCTAssertEqual(try named.tensorNames(), ["metric", "gradient:embed.output", "value:embed.output"])
    }

    func testErrorsComeBackAsThemselves() throws {
        struct Mine: Error, Equatable {}
        let model = try tiny()
        let options: [String: ToolOption] = ["prompts": [3, 7], "sites": ["embed"]]
        XCTAssertThrowsError(try model.run("gradients", options: options, metric: .custom { _ in throw Mine() })) {
            XCTAssertEqual($0 as? Mine, Mine())
        }
        let unknown = assertThrows(.invalidArgument, try model.run("gradient"))
        XCTAssertTrue(unknown?.message.contains("did you mean 'gradients'") == true)
        assertThrows(.invalidArgument, try model.run("gradients", options: options))
        assertThrows(.notFound, try model.run("gradients", options: options, metric: .logit(3)).tensor("nothing"))
    }
}
