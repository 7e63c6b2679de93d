import XCTest

@testable import MLXTerp

final class ConcurrencyTests: HandleTests {
    func testTracesOfOneModelFromManyTasks() async throws {
        let model = try tiny()
        let alone = try (1...8).map { try model.trace([$0, 7, 11], interventions: ["layers.0": .scale(Double($0))]).output.array(of: Float.self) }
        try await withThrowingTaskGroup(of: (Int, [Float]).self) { group in
            for n in 1...8 {
                group.addTask {
                    let trace = try model.trace([n, 7, 11], interventions: ["layers.0": .scale(Double(n))])
                    return (n, try trace.output.array(of: Float.self))
                }
            }
            for try await (n, values) in group {
                XCTAssertEqual(values, alone[n - 1])
            }
        }
    }

    func testErrorsOfManyTasksStayApart() async throws {
        struct Own: Error { let number: Int }
        let model = try tiny()
        await withTaskGroup(of: (Int, Int?).self) { group in
            for n in 0..<16 {
                group.addTask {
                    let failing = Intervention.custom("failing") { _ in throw Own(number: n) }
                    do {
                        _ = try model.trace(tokens, interventions: ["layers.0": failing]).output
                        return (n, nil)
                    } catch {
                        return (n, (error as? Own)?.number)
                    }
                }
            }
            for await (n, found) in group { XCTAssertEqual(found, n) }
        }
    }
}
